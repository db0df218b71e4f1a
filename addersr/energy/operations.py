"""What a network computes: its multiplications and additions, counted while it runs on tensors that have no values.

Every operator that torch executes is met by a `TorchDispatchMode` and counted by a rule for its kind; one that has no
rule is an error, so nothing is left out silently. On the meta device that takes no memory, whatever the size.

What is counted as what: a convolution's multiply-accumulate is one multiplication and one addition, an adder layer's
absolute difference two additions. A comparison, as in ReLU, is an addition. Signs and magnitudes are free, and so is
moving data. Logarithm and exponential are counted as the polynomials of this package's float32 kernels
(csrc/vector_math.hpp), a BatchNorm as the one multiplication and addition a value to which it folds.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from addersr.errors import AdderSRError
from addersr.layers import AdderUnit, PowerActivation

__all__ = ["CONVOLUTIONS", "EXPONENTIAL", "LOGARITHM", "QUANTISING", "UNITS", "Counts", "Operations", "count"]


@dataclass(frozen=True)
class Operations:
    """Numbers of multiplications and additions."""

    mul: int = 0
    add: int = 0

    def __add__(self, other: "Operations") -> "Operations":
        """Both."""
        return Operations(self.mul + other.mul, self.add + other.add)

    def __sub__(self, other: "Operations") -> "Operations":
        """What is left without `other`."""
        return Operations(self.mul - other.mul, self.add - other.add)

    def __mul__(self, times: int) -> "Operations":
        """So many times."""
        return Operations(self.mul * times, self.add * times)


Counts: TypeAlias = Mapping[str, Operations]
"""Part of a network -> what it computes. Layers are `UNITS` and `CONVOLUTIONS`; other parts are named for people."""

UNITS = "units"
"""The sums of the layers within adder units, and of the convolutions in their places in a convolutional twin."""

CONVOLUTIONS = "convolutions"
"""The sums of all other convolutions."""

QUANTISING = "to bytes and back"
"""Only where units compute in bytes."""

_BIAS, _RELU, _REST = "bias", "ReLU", "residuals, mean and enlarged picture"
_PLACES: dict[type[nn.Module], str] = {
    AdderUnit: "self-shortcut",  # its own operators; those of its modules are theirs
    nn.BatchNorm2d: "BatchNorm",
    PowerActivation: "power activation",
}

LOGARITHM = Operations(10, 10)
EXPONENTIAL = Operations(7, 9)

_TO_BYTES = Operations(1, 6)  # by value of the input: scaled, clamped, rounded; the excess, and both sums
_TO_BYTES_TWIN = Operations(1, 4)  # the same without an excess and its sum
_FROM_BYTES_TWIN = Operations(1, 0)  # by sum; an adder unit has it in BatchNorm's multiplication

_A_TAP: dict[str, Operations] = {"convolution": Operations(1, 1), "addersr::adder2d": Operations(0, 2)}
"""By value of the result and value of a filter."""

_A_VALUE: dict[str, Operations] = {
    "add": Operations(0, 1),
    "sub": Operations(0, 1),
    "mul": Operations(1, 0),
    "div": Operations(1, 0),
    "relu": Operations(0, 1),
    "clamp_min": Operations(0, 1),
    "lt": Operations(0, 1),
    "log": LOGARITHM,
    "exp": EXPONENTIAL,
    "expm1": EXPONENTIAL,
    "native_batch_norm": Operations(1, 1),
    "_native_batch_norm_legit_no_training": Operations(1, 1),
    "upsample_bilinear2d": Operations(6, 3),
}
"""By value of the result, by the operator's name without `aten::` and the underscore of work in place."""

_FREE = {
    *("abs", "neg", "sign", "where"),
    *("empty", "scalar_tensor", "cat", "clone", "copy", "_to_copy", "detach", "alias", "repeat_interleave"),
    *("slice", "select", "expand", "view", "_unsafe_view", "reshape", "permute", "unsqueeze", "squeeze"),
    "pixel_shuffle",
}

_CUBIC_TAPS = Operations(4, 3)


def count(
    model: nn.Module, height: int, width: int, units: Collection[str] = (), channels: int = 3
) -> Counts:
    """What a network computes for one picture.

    Args:
        model: on the meta device, in eval mode.
        height, width: of its input.
        units: names of the modules whose layers are counted as `UNITS`; `QUANTISING` is what it would take to have
            them compute in bytes.
        channels: of its input.

    Raises:
        AdderSRError: torch runs an operator that has no rule here.
    """
    counter = _Counter()
    hooks = [
        hook
        for name, module in model.named_modules()
        for hook in (
            module.register_forward_pre_hook(partial(counter.enter, name in units)),
            module.register_forward_hook(partial(counter.leave, name in units)),
        )
    ]
    try:
        # Not in inference mode, where torch hands over composite operators whole.
        with torch.no_grad(), counter:
            model(torch.empty(1, channels, height, width, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return dict(counter.counts)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no annotation
    """Counts what is executed under it, by the module that executes it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.counts: defaultdict[str, Operations] = defaultdict(Operations)
        self._inside = [
            (_REST, CONVOLUTIONS)
        ]  # of the modules that run now: what operators and layers count as

    def enter(self, unit: bool, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Before a module runs."""
        place, layer = self._inside[-1]
        self._inside.append((_PLACES.get(type(module), place), UNITS if unit else layer))
        if unit:
            price = _TO_BYTES if isinstance(module, AdderUnit) else _TO_BYTES_TWIN
            self.counts[QUANTISING] += price * inputs[0].numel()

    def leave(self, unit: bool, module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """After it has run."""
        self._inside.pop()
        if unit and not isinstance(module, AdderUnit):
            self.counts[QUANTISING] += _FROM_BYTES_TWIN * output.numel()

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        first: Tensor = result[0] if isinstance(result, tuple) else result
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        values, (place, layer) = first.numel(), self._inside[-1]
        if name in _A_TAP:
            self.counts[layer] += _A_TAP[name] * (values * args[1][0].numel())
            if name == "convolution" and args[2] is not None:
                self.counts[_BIAS] += Operations(add=values)
        elif name in _A_VALUE:
            self.counts[_RELU if name == "relu" else place] += _A_VALUE[name] * values
            if kwargs.get("alpha", 1) != 1:  # torch.add(x, y, alpha=2)
                self.counts[place] += Operations(mul=values)
        elif name == "pow":
            self.counts[place] += _power(args[1]) * values
        elif name == "_upsample_bicubic2d_aa":  # along the rows, then along the columns
            between = values // first.shape[2] * args[0].shape[2]
            self.counts[place] += _CUBIC_TAPS * (between + values)
        elif name not in _FREE:
            raise AdderSRError(f"this version of torch runs {func}, which `addersr energy` cannot count yet")
        return result


def _power(exponent: object) -> Operations:
    if isinstance(exponent, int) and exponent > 0:
        return Operations(mul=exponent - 1)
    return LOGARITHM + Operations(mul=1) + EXPONENTIAL
