"""One picture through a network: whole when it fits, in tiles that give the same result when it does not."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from math import isqrt
from threading import Lock
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, maximum_filter
from torch import Tensor, nn

from addersr.errors import AdderSRError, BackendError, CheckpointError
from addersr.images.picture import Animation, Picture, Samples, from_tensor, to_tensor
from addersr.images.resize import imresize
from addersr.images.tiles import Box, Tile, split
from addersr.inference.ensemble import mean_of_views
from addersr.inference.fused import FusedEDSR, fusable
from addersr.models import EDSR
from addersr.models.quantized import is_quantized
from addersr.unwarned import unwarned

__all__ = ["Progress", "Upscaler", "fill_hidden", "usable_device"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (tiles done, tiles in all) after each tile."""

_CPU_BUDGET = 3 * 2**28  # bytes of feature maps: 0.4 megapixels whole at 32 channels and x2, on any laptop
_GPU_SHARE = 0.5  # of the memory that is free on an accelerator
_LIVE_MAPS = 6  # of the widest size at once, measured: an adder unit's values between its steps
_LIVE_MAPS_FUSED = 4  # where a unit is one kernel call, measured: 2.3 to 3.5
_LIVE_MAPS_INT8 = 2  # where it is one in int8, as large as in float32; measured: 1.1 to 1.5
_LEAST_TILE = 32  # LR pixels; smaller ones would be nearly all halo
_PROBE = 16  # side of the picture that finds the widest map
_BICUBIC_HALO = 3  # the cubic kernel reaches 2 pixels, and half a pixel of phase
_ALPHA_TILE = 1024
_FAINT = 1 / 8  # of the highest alpha around; what is below it hardly shows
_AROUND = 9  # side of the square that is looked at for that, in pixels


class Upscaler:
    """A network made ready to upscale pictures of any size.

    On the CPU an adder network goes through `addersr.inference.fused`, which takes its weights over as they are now;
    where that cannot be (`fusable`), through its own modules. Several threads may call; the network runs for one at a
    time.

    Tiling. A network of receptive-field radius r gives an output pixel the same value from a window that
    reaches r LR pixels around it as from the whole picture (`addersr.images.tiles`), so the tile size changes
    time and memory, not the result; the last bits of a float may differ, because a convolution may sum in
    another order for another shape.

    Memory. A pass needs a few feature maps of the widest size at once: bytes = 4 x (values of the widest map
    for an LR pixel) x 4 maps x LR pixels, 2 maps in int8, or 6 where the network runs through its own modules.
    At x2 the widest map is the upsampler's, 4 x channels values: 2 KiB an LR pixel for 32 channels, 4 KiB for
    64, 16 KiB for 256. The maps of the largest window so far are kept for the next. With ``tile="auto"`` a
    picture whose maps fit into a budget (768 MiB on the CPU; half of what is free on a GPU) goes through whole,
    without any overhead: at x2 up to 0.4 megapixels for 32 channels, in int8 twice as much. A larger one is
    cut into the largest tiles whose windows fit, so beyond the budget the network needs no more memory. What
    still grows with the picture are the two pictures themselves (3 bytes a pixel at 8 bits, 6 at 16), and for
    one with transparency its two alpha channels and about 12 bytes an LR pixel to find the nearest visible
    colour (`fill_hidden`). The CPU's budget is fixed rather than measured, because what is free there belongs
    to everybody, and a system that overcommits kills instead of refusing. When memory runs out all the same,
    the tile is halved and the picture goes on; the smaller tile is kept for the pictures after it. An explicit
    tile size is never changed.

    bfloat16. Convolutions compute in bfloat16, and in a convolutional network the maps between them are kept in it.
    Adder layers, and all that belongs to their units, stay in float32, as in training (`addersr.layers.AdderUnit`):
    sums of hundreds of magnitudes leave nothing of 8 bits of precision. So it changes head, last layer and a
    convolutional upsampler of an adder network, and all of a convolutional one.

    Args:
        model: an `addersr.models` network; it is moved to ``device`` and channels-last memory and put into
            eval mode, in place. Its ``scale`` and ``radius`` are used.
        device: "cpu", "cuda", "cuda:1"..., or "auto": a CUDA device where there is one, else the CPU.
        tile: side of a tile in LR pixels without its halo, at least 1; None: always whole; "auto": as above.
        largest_tile: with "auto", no tile is larger than this, and neither is a picture that goes through whole:
            progress is told, and a pass can be left, between two tiles. None: as large as fits.
        self_ensemble: take the mean over the eight turned and mirrored views of each tile, before anything is clipped
            or rounded (`addersr.inference.ensemble`); it takes eight times as long.
        bfloat16: as above; a float32 network.

    Raises:
        BackendError: the device is unknown or not there.
        CheckpointError: bfloat16 of a network that is quantised to int8.
        ValueError: a tile below 1.

    Attributes:
        precision: what it computes in, "float32", "bfloat16" or "int8".
        self_ensemble: as above; it may be set between two pictures.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str | torch.device = "cpu",
        tile: int | Literal["auto"] | None = "auto",
        largest_tile: int | None = None,
        self_ensemble: bool = False,
        bfloat16: bool = False,
    ) -> None:
        for side in (tile, largest_tile):
            if isinstance(side, int) and side < 1:
                raise ValueError(f"tile must be at least 1, got {side}")
        if bfloat16 and is_quantized(model):
            raise CheckpointError(
                "a network that is quantised to int8 cannot run in bfloat16; name its float32 weights"
            )
        self.precision = "bfloat16" if bfloat16 else "int8" if is_quantized(model) else "float32"
        self.self_ensemble = self_ensemble
        described = cast(Any, model)
        self.scale: int = described.scale
        self.radius: int = described.radius
        self.device = usable_device(device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()
        self.dtype = next((p.dtype for p in model.parameters()), torch.float32)
        self._auto = tile == "auto"
        # In auto mode: the largest one, by wish or because memory has run out.
        self._tile = largest_tile if tile == "auto" else tile
        self._network = self._prepare()
        self._lock = Lock()  # one set of feature maps, for one pass at a time; and to change network or tile
        maps = _LIVE_MAPS
        if isinstance(self._network, FusedEDSR):
            maps = _LIVE_MAPS_INT8 if self.precision == "int8" else _LIVE_MAPS_FUSED
        self._bytes_per_pixel = maps * self.dtype.itemsize * self._widest_map() if self._auto else 0

    def __call__(self, pixels: Samples, progress: Progress | None = None) -> Samples:
        """Upscale (H, W, 3) uint8 or uint16 RGB to (sH, sW, 3) of the same type.

        Only one tile is held as floating point at a time.

        Raises:
            AdderSRError: not enough memory for an explicit tile, or for the smallest in auto mode.
        """
        height, width = pixels.shape[:2]
        result = np.empty((height * self.scale, width * self.scale, 3), pixels.dtype)

        def read(window: Box) -> Tensor:
            return to_tensor(pixels[window.slices])

        def write(place: Box, part: Tensor) -> None:
            result[place.slices] = from_tensor(part, pixels.dtype)

        self._run(height, width, 1, read, write, progress)
        return result

    def upscale_tensor(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """Upscale (N, 3, H, W) in [0, 1] to (N, 3, sH, sW), clipped to [0, 1], of x's type and device.

        Raises:
            AdderSRError: as `__call__`.
        """
        count, _, height, width = x.shape
        result = x.new_empty((count, 3, height * self.scale, width * self.scale))
        if not count:
            return result

        def write(place: Box, part: Tensor) -> None:
            result[:, :, *place.slices] = part.clamp(0, 1).to(result)

        self._run(height, width, count, lambda window: x[:, :, *window.slices], write, progress)
        return result

    @overload
    def upscale_picture(self, picture: Picture, progress: Progress | None = None) -> Picture: ...
    @overload
    def upscale_picture(self, picture: Animation, progress: Progress | None = None) -> Animation: ...
    def upscale_picture(
        self, picture: Picture | Animation, progress: Progress | None = None
    ) -> Picture | Animation:
        """Upscale colour and transparency, of an animation each frame; what the file said is carried along.

        Alpha is upscaled by bicubic interpolation, not by the network: it stays exactly 0 and 255 where it
        was flat, where a network trained on photographs leaves traces that show once the picture is laid on
        another. The colour under pixels of little or no alpha is invisible and arbitrary, often black; before it
        goes through the network it is replaced by the nearest visible colour (`fill_hidden`), so that it does
        not bleed into the edges.

        Raises:
            AdderSRError: as `__call__`.
        """
        if isinstance(picture, Animation):
            return self._upscale_animation(picture, progress)
        if picture.alpha is None:
            return replace(picture, pixels=self(picture.pixels, progress))
        pixels = self(fill_hidden(picture).pixels, progress)
        return replace(picture, pixels=pixels, alpha=_upscale_alpha(picture.alpha, self.scale))

    def _upscale_animation(self, animation: Animation, progress: Progress | None) -> Animation:
        count = len(animation.frames)
        results = []
        for index, frame in enumerate(animation.frames):

            def of_all(done: int, total: int, index: int = index) -> None:
                if progress is not None:
                    progress(index * total + done, count * total)

            results.append(self.upscale_picture(frame, of_all))
        return replace(animation, frames=tuple(results))

    def _run(
        self,
        height: int,
        width: int,
        count: int,
        read: Callable[[Box], Tensor],
        write: Callable[[Box, Tensor], None],
        progress: Progress | None,
    ) -> None:
        """Take a picture through tile by tile; in auto mode again with smaller ones if memory ran out."""
        tile = self._choose_tile(height, width, count)
        while True:
            tiles = split(height, width, tile, self.radius)
            try:
                self._pass(tiles, read, write, progress)
                return
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            # Out of the handler, so that the traceback no longer holds the tensors of the attempt.
            with self._lock:
                self._network = self._prepare()  # without the maps it kept
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
            side = max(tiles[0].keep.height, tiles[0].keep.width)
            if not self._auto:
                raise AdderSRError(
                    f"not enough memory for tiles of {side} pixels; use --tile auto or a smaller tile"
                )
            if side <= _LEAST_TILE:
                raise AdderSRError(f"not enough memory even for tiles of {side} pixels; use a smaller model")
            tile = self._limit_tile(max(side // 2, _LEAST_TILE))

    def _limit_tile(self, tile: int) -> int:
        """From now on no tile is larger, also where another thread, whose picture was smaller, has come to less."""
        with self._lock:
            self._tile = tile if self._tile is None else min(tile, self._tile)
            return self._tile

    def _pass(
        self,
        tiles: list[Tile],
        read: Callable[[Box], Tensor],
        write: Callable[[Box, Tensor], None],
        progress: Progress | None,
    ) -> None:
        with torch.inference_mode():
            # The largest window first: the maps that are kept from it serve the others, and memory runs out at once.
            for done, tile in enumerate(sorted(tiles, key=_window_area, reverse=True), 1):
                x = read(tile.window).to(self.device, self.dtype)
                with self._lock:
                    y = self._forward(x)
                write(tile.keep.times(self.scale), y[:, :, *tile.inside.times(self.scale).slices])
                if progress is not None:
                    progress(done, len(tiles))

    def _forward(self, x: Tensor) -> Tensor:
        bfloat16 = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if bfloat16 else nullcontext():
            if self.self_ensemble:
                return mean_of_views(self._network, x)
            return self._network(x.contiguous(memory_format=torch.channels_last))

    def _prepare(self) -> Callable[[Tensor], Tensor]:
        return FusedEDSR(cast(EDSR, self.model)) if fusable(self.model) else self.model

    def _choose_tile(self, height: int, width: int, count: int) -> int | None:
        """The side of a tile for ``count`` pictures of this size at once; None: whole."""
        if not self._auto:
            return self._tile
        fitting = self._budget() // (self._bytes_per_pixel * max(count, 1))
        if height * width <= fitting:
            return self._tile
        tile = max(isqrt(fitting) - 2 * self.radius, _LEAST_TILE)
        return tile if self._tile is None else min(tile, self._tile)

    def _budget(self) -> int:
        """Bytes that the feature maps may take."""
        if self.device.type != "cuda":
            return _CPU_BUDGET
        free, _ = torch.cuda.mem_get_info(self.device)
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int((free + cached) * _GPU_SHARE)

    def _widest_map(self) -> int:
        """Values for an LR pixel in the largest tensor that a layer gives out, found on a small picture."""
        widest = 3 * self.scale**2

        def look(_module: nn.Module, _inputs: object, output: object) -> None:
            nonlocal widest
            if isinstance(output, Tensor):
                widest = max(widest, output.numel() // _PROBE**2)

        hooks = [module.register_forward_hook(look) for module in self.model.modules()]
        try:
            with torch.inference_mode():
                self.model(torch.zeros(1, 3, _PROBE, _PROBE, device=self.device, dtype=self.dtype))
        finally:
            for hook in hooks:
                hook.remove()
        return widest


def _window_area(tile: Tile) -> int:
    return tile.window.height * tile.window.width


def usable_device(name: str | torch.device) -> torch.device:
    """The device of this name, "auto" for the best one there is.

    Raises:
        BackendError: there is none, or it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with unwarned():  # of several lines, about device types that are no devices
            device = torch.device(name)
            torch.empty(1, device=device).cpu()
    # torch's ways to say: unknown or without data; not built in; in need of a package that is not there.
    except (RuntimeError, AssertionError, ImportError, AttributeError):
        there = "there is no CUDA device here"
        if torch.cuda.is_available():
            there = f"CUDA devices here: {', '.join(f'cuda:{i}' for i in range(torch.cuda.device_count()))}"
        raise BackendError(f"device {str(name)!r} cannot be used; use cpu or auto ({there})") from None
    return device


def _is_out_of_memory(error: BaseException) -> bool:
    # torch raises OutOfMemoryError for an accelerator only; for the CPU it is a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def fill_hidden(picture: Picture) -> Picture:
    """Give pixels that can hardly be seen the colour of the nearest one that can.

    Faint is what has no alpha, or less than an eighth of the highest within 4 pixels; it takes the colour of the
    nearest pixel that is not, and keeps of its own the share that its alpha is of that eighth. So opaque pixels,
    soft edges and evenly faint pictures stay as they are, and no visible colour changes by more than 1/32.

    Args:
        picture: of integers, or of floating point in [0, 1].
    """
    alpha = picture.alpha
    if alpha is None or not alpha.any():
        return picture
    limit = maximum_filter(alpha, _AROUND) * np.float32(_FAINT)
    faint = (alpha == 0) | (alpha < limit)
    if not faint.any():
        return picture
    rows, columns = distance_transform_edt(faint, return_distances=False, return_indices=True)
    pixels = picture.pixels[rows, columns]
    partly = faint & (alpha > 0)
    if partly.any():
        share = (alpha[partly] / limit[partly])[:, None]
        mixed = share * picture.pixels[partly] + (1 - share) * pixels[partly]
        pixels[partly] = mixed.round() if np.issubdtype(pixels.dtype, np.integer) else mixed
    return replace(picture, pixels=pixels)


def _upscale_alpha(alpha: Samples, scale: int) -> Samples:
    height, width = alpha.shape
    result = np.empty((height * scale, width * scale), alpha.dtype)
    for tile in split(height, width, _ALPHA_TILE, _BICUBIC_HALO):
        part = imresize(alpha[tile.window.slices], scale)
        result[tile.keep.times(scale).slices] = part[tile.inside.times(scale).slices]
    return result
