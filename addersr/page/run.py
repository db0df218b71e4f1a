"""Several pictures, one after the other, in another thread; it tells how far it is, and can be stopped."""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from torch import Tensor

from addersr.errors import AdderSRError, ImageError, UsageError
from addersr.images import files
from addersr.images.files import Animation
from addersr.inference.enlarge import check_pixels, enlarge
from addersr.inference.sizes import Wanted
from addersr.inference.survey import probe
from addersr.page.networks import Network, Networks
from addersr.page.results import Placed, archive, place, write
from addersr.page.store import Store

__all__ = ["MAX_FILES", "MAX_PIXELS", "SCALES", "Order", "Outcome", "Refused", "Run", "Upscaled", "order_of"]

MAX_FILES = 20
"""Pictures at once."""

MAX_PIXELS = 24_000_000
"""Of a result, all its frames together, unless told otherwise: one that a browser still shows well."""

SCALES = (2, 3, 4)

_LEASE = 60.0  # seconds


@dataclass(frozen=True)
class Order:
    """What a user wants.

    Raises:
        UsageError: no picture, too many, or a scale that is not offered.
    """

    pictures: tuple[Path, ...]
    model: str
    scale: int = 2
    precision: str = "float32"
    self_ensemble: bool = False

    def __post_init__(self) -> None:
        """Check it."""
        if not self.pictures:
            raise UsageError("Choose a picture first.")
        if len(self.pictures) > MAX_FILES:
            raise UsageError(
                f"{len(self.pictures)} pictures at once are too many, at most {MAX_FILES} are taken; "
                "for more there is the command: addersr upscale"
            )
        if self.scale not in SCALES:
            raise UsageError(f"scale must be one of {', '.join(map(str, SCALES))}, got {self.scale!r}")


@dataclass(frozen=True)
class Refused:
    """A picture that could not be done."""

    name: str
    reason: str
    """In one line."""


@dataclass(frozen=True)
class Upscaled:
    """A picture that was done."""

    name: str
    placed: Placed
    size: tuple[int, int]
    """(width, height) of the picture."""
    result_size: tuple[int, int]
    frames: int
    seconds: float
    """In the network and in resampling its result, without reading and writing."""
    model: str
    precision: str
    energy_mj: float | None
    """Of the arithmetic of all that went through the network: every pass, every view of the self-ensemble, every tile
    with its halo (`addersr.energy.estimate`). None where it cannot be told."""
    twin_energy_mj: float | None

    @property
    def megapixels(self) -> float:
        """Of the result."""
        return self.result_size[0] * self.result_size[1] * self.frames / 1e6


Outcome = Upscaled | Refused


class _StoppedError(Exception):
    """The run was told to stop."""


class Run:
    """Does an order; a picture that fails does not stop the others.

    Args:
        store: where its results have a room.
        max_pixels: the most of a result, all its frames together.

    Attributes:
        folder: takes the results.
        outcomes: of the pictures done so far, in their order.
        share: of the picture at hand that is computed, 0 to 1.
        archive: all results in one file, when the run has ended and there are several.
        begun: `time.perf_counter` when it came to compute; None while it waits.
    """

    def __init__(self, networks: Networks, order: Order, store: Store, max_pixels: int = MAX_PIXELS) -> None:
        self.order = order
        self.folder = store.room()
        self.outcomes: list[Outcome] = []
        self.share = 0.0
        self._pixels = [0] * len(order.pictures)  # of each; 0 where it cannot be told
        self.archive: Path | None = None
        self.begun: float | None = None
        self._networks = networks
        self._store = store
        self._max_pixels = max_pixels
        self._give_up: Callable[[], object] = lambda: None  # before its turn has come
        self._followed = time.monotonic()
        self._stop = Event()
        self._ended = Event()
        self._names: set[str] = set()

    def start(self, executor: Executor) -> None:
        """Wait for a turn; ``executor`` has one thread, because a network does one picture at a time."""
        turn = executor.submit(self._work)
        turn.add_done_callback(lambda _: self._ended.set())
        self._give_up = turn.cancel

    def stop(self) -> None:
        """Give up, at the latest when the network has done the tile at hand; what is done already is kept."""
        self._stop.set()
        self._give_up()

    def follow(self) -> None:
        """Somebody still waits for it."""
        self._followed = time.monotonic()

    @property
    def abandoned(self) -> bool:
        """Whether nobody has followed it for a minute; then it ends as if it were stopped."""
        return time.monotonic() - self._followed > _LEASE

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop before all was done."""
        return (self._stop.is_set() or self.abandoned) and len(self.outcomes) < len(self.order.pictures)

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self._ended.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, at most so long; whether it has come."""
        return self._ended.wait(seconds)

    @property
    def share_of_all(self) -> float:
        """Of the pixels of all pictures that are computed, 0 to 1."""
        done = len(self.outcomes)
        computed = sum(self._pixels[:done]) + self.share * sum(self._pixels[done : done + 1])
        return computed / max(sum(self._pixels), 1)

    @property
    def results(self) -> list[Upscaled]:
        """The outcomes that have a result."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Upscaled)]

    def _work(self) -> None:
        self._pixels = list(map(_pixels, self.order.pictures))
        self.begun = time.perf_counter()
        with suppress(_StoppedError):
            for picture in self.order.pictures:
                self._check()
                self.share = 0.0
                self.outcomes.append(self._outcome(picture))
        if len(self.results) > 1:
            with suppress(OSError):  # each can still be had by itself
                self.archive = archive(self.folder, [result.placed for result in self.results])

    def _check(self) -> None:
        if self._stop.is_set() or self.abandoned:
            raise _StoppedError

    def _outcome(self, picture: Path) -> Outcome:
        try:
            return self._upscale(picture)
        except AdderSRError as error:
            reason = str(error)
        except MemoryError:
            reason = f"{picture.name}: not enough memory; choose a smaller scale, or crop it"
        except OSError as error:
            reason = f"{picture.name}: {error.strerror or error}; try again later"
        except _StoppedError:
            raise
        except Exception:  # of this program: the others are done all the same
            traceback.print_exc()
            reason = "an error of the page itself; its log says more"
        # The files lie in folders of gradio's and our own, whose names are nobody's business.
        for folder in (picture.parent, self.folder):
            reason = reason.replace(f"{folder}{os.sep}", "")
        return Refused(picture.name, reason.removeprefix(f"{picture.name}: "))

    def _upscale(self, picture: Path) -> Upscaled:
        order, most = self.order, self._max_pixels
        self._store.check()
        if not picture.is_file():
            raise ImageError("it is no longer here; upload it again")
        network = self._networks.get(order.model, order.scale, order.precision)
        upscaler = network.upscaler
        content = files.read_any(picture, max_pixels=most // order.scale**2)
        height, width = files.size(content)
        size = Wanted(factor=order.scale).of(height, width)
        frames = len(content.frames) if isinstance(content, Animation) else 1
        try:
            check_pixels((height, width), size, frames, upscaler.scale, most)
        except ImageError:
            raise ImageError(
                f"a result of {size[1]} x {size[0]} is too large for this page; choose a smaller scale"
            ) from None
        placed = place(picture.name, content, order.scale, size, self.folder, self._names)
        counted = [0]
        upscaler.self_ensemble = order.self_ensemble  # one picture at a time goes through it
        started = time.perf_counter()
        with self._watched(network, counted):
            result = enlarge(upscaler, content, size, self._advance)
        seconds = time.perf_counter() - started
        self._check()
        write(placed, content, result, self._check)
        each = network.per_pixel
        return Upscaled(
            name=picture.name,
            placed=placed,
            size=(width, height),
            result_size=size[::-1],
            frames=frames,
            seconds=seconds,
            model=network.name,
            precision=upscaler.precision,
            energy_mj=None if each is None else each.mj * counted[0],
            twin_energy_mj=None if each is None else each.twin_mj * counted[0],
        )

    def _advance(self, share: float) -> None:
        self.share = share
        self._check()

    @contextmanager
    def _watched(self, network: Network, counted: list[int]) -> Iterator[None]:
        """Count the pixels that go through the network, at its first layer; there it can also be stopped."""

        def look(_head: Any, inputs: tuple[Tensor]) -> None:
            self._check()
            count, _, height, width = inputs[0].shape
            counted[0] += count * height * width

        head: Any = network.upscaler.model.head
        hook = head.register_forward_pre_hook(look)
        try:
            yield
        finally:
            hook.remove()


def _pixels(picture: Path) -> int:
    size = probe(picture)
    return 0 if size is None else size.height * size.width * size.frames


def order_of(
    pictures: Sequence[str] | None, model: str, scale: int, precision: str, self_ensemble: bool
) -> Order:
    """An `Order` of what the page's fields hold."""
    if scale in SCALES:  # of programs it may come as 2.0
        scale = SCALES[SCALES.index(scale)]
    return Order(tuple(map(Path, pictures or ())), model, scale, precision, self_ensemble)
