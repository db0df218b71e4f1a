"""The networks on offer, made ready when they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from addersr import checkpoint
from addersr.checkpoint import INT8_SUFFIX
from addersr.energy.estimate import Estimate, estimate
from addersr.errors import AdderSRError, CheckpointError, UsageError
from addersr.inference.sizes import default_model
from addersr.inference.upscaler import Upscaler, usable_device

__all__ = ["AUTO", "PRECISIONS", "Network", "Networks", "Offer"]

AUTO = "auto"
"""In place of a name: the shipped network that suits the scale."""

PRECISIONS = ("float32", "int8", "bfloat16")

_KEPT = 3  # networks in memory, with their feature maps
_LARGEST_TILE = 384  # LR pixels; a tile is what progress is counted in, and what a Stop waits for
_ESTIMATED = 1000  # side of the picture whose energy is counted, which takes no memory


@dataclass(frozen=True)
class Offer:
    """A network that the user may choose."""

    name: str
    source: str
    """What `addersr.checkpoint.load` takes."""
    scale: int
    precisions: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """A network that is ready."""

    name: str
    upscaler: Upscaler
    per_pixel: Estimate | None
    """The energy of a pixel that goes through it; None where it cannot be told."""


class Networks:
    """What is on offer, and what of it has been made ready.

    Args:
        sources: names and files; none stands for all shipped weights.
        device: as `Upscaler` has it.

    Raises:
        CheckpointError: no such weights, or none are shipped.
        UsageError: two files of one name.
        BackendError: there is no such device.

    Attributes:
        offers: by name.
        names: what a user may name, `AUTO` first if he may leave it to us.
    """

    def __init__(self, sources: Sequence[str] = (), device: str = "auto") -> None:
        self.offers: dict[str, Offer] = {}
        self._device = usable_device(device)
        shipped = checkpoint.shipped()
        if not (sources or shipped):
            raise CheckpointError(
                "no weights are shipped with this copy; name a file: python app.py --model FILE"
            )
        quantized = {f"{name}{INT8_SUFFIX}" for name in shipped}  # a precision of the others
        for source in sources or [name for name in shipped if name not in quantized]:
            offer = _offer(source)
            if offer.name in self.offers:
                raise UsageError(f"--model {source}: another model is called {offer.name}, too; rename one")
            self.offers[offer.name] = offer
        automatic = not sources and len(self.offers) > 1
        self.names = ((AUTO,) if automatic else ()) + tuple(self.offers)
        self._ready = lru_cache(_KEPT)(self._prepare)

    def precisions(self, name: str) -> tuple[str, ...]:
        """What a network, or with `AUTO` any of them, can be run in, in the order of `PRECISIONS`."""
        chosen = self.offers.values() if name == AUTO else [self.offers[name]]
        return tuple(p for p in PRECISIONS if any(p in offer.precisions for offer in chosen))

    def get(self, name: str, scale: int, precision: str) -> Network:
        """The network of this name for pictures that are to be enlarged so much.

        Raises:
            UsageError: it is not on offer, or not in this precision.
            AdderSRError: it cannot be loaded or run.
        """
        if name not in self.names:
            raise UsageError(f"no model is called {name!r}; there are {', '.join(self.names)}")
        if name == AUTO:
            name = default_model(scale)
        if precision not in self.offers[name].precisions:
            known = " or ".join(self.offers[name].precisions)
            raise UsageError(f"{name} cannot be run in {precision}; choose {known}, or another model")
        return self._ready(name, precision)

    def _prepare(self, name: str, precision: str) -> Network:
        # Only names of `PRECISIONS` come here, which `load` spells out one by one.
        loaded = checkpoint.load(self.offers[name].source, precision=precision)  # type: ignore[arg-type]
        upscaler = Upscaler(
            loaded.model,
            device=self._device,
            bfloat16=precision == "bfloat16",
            largest_tile=_LARGEST_TILE,
        )
        try:
            whole = estimate(loaded.model, _ESTIMATED, _ESTIMATED)
        except AdderSRError:  # an operator that it cannot count is no reason to withhold the network
            return Network(loaded.name, upscaler, None)
        pixels = _ESTIMATED**2
        return Network(loaded.name, upscaler, Estimate(whole.mj / pixels, whole.twin_mj / pixels))


def _offer(source: str) -> Offer:
    loaded = checkpoint.load(source)
    if loaded.precision == "int8":
        precisions: tuple[str, ...] = ("int8",)
    elif source + INT8_SUFFIX in checkpoint.shipped():
        precisions = PRECISIONS
    else:
        precisions = ("float32", "bfloat16")
    return Offer(loaded.name, source, loaded.model.scale, precisions)
