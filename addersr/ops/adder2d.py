"""`adder2d`, the public function: what is computed, what is accepted, and which backend computes it."""

from collections.abc import Sequence
from typing import SupportsIndex

from torch import Tensor

from addersr.ops import library
from addersr.ops.library import unavailable_reason as unavailable_reason  # public here, beside BACKENDS

BACKENDS = ("reference", "native", "native16", "triton")
"""The explicit backends: `reference` is eager torch on any device, `native` the compiled CPU kernels, `native16` the
same with a forward in 16-bit fixed point, `triton` the kernels for NVIDIA GPUs."""

_MOST = 2**31 - 1  # of a stride or padding


def adder2d(
    x: Tensor,
    weight: Tensor,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    backend: str = "auto",
) -> Tensor:
    r"""Minus the L1 distance between each filter and each patch of the input (AdderNet, eq. 2).

    .. math:: Y(n, o, m, l) = -\sum_{c, i, j} |X(n, c, m s + i - p, l s + j - p) - W(o, c, i, j)|

    Zero padding takes part: a patch value outside the picture is 0 and contributes \|0 - W\|, unlike in a
    convolution, where it vanishes.

    The backward pass is the paper's surrogate and by design not the true derivative:

    - to the filter, the full-precision difference (AdderNet, eq. 5): grad_W = sum (X - W) grad_Y;
    - to the input, clipped (AdderNet, eq. 7-8): grad_X = sum HardTanh(W - X) grad_Y.

    It is differentiable once.

    Args:
        x: (N, C, H, W), floating point, any strides; N may be 0.
        weight: (O, C, Kh, Kw), same dtype and device as `x`.
        stride: positive, one for both axes or (vertical, horizontal).
        padding: zeros added on every side, not negative, one for both axes or (vertical, horizontal).
        backend: "auto" takes the fastest that can run (see `unavailable_reason`): on the CPU "native16" where the
            values allow it, and "native" where not. A named one is taken, or raises.

    Returns:
        (N, O, H', W') with H' = (H + 2p - Kh) // s + 1, dtype of `x`, channels last in memory. All values <= 0.
        "native" rounds by float32's epsilon times the sum of |X| + |W|, not of |X - W|. "native16" rounds each value
        to one of 2^16 on a grid over the narrower range of the two, whose step is at most 1.5e-4 of the mean |X| plus
        the mean |W|: at most a step for each term, and about 2e-6 of the result, for errors of terms cancel. "triton"
        sums bfloat16 and float16 in float32, and rounds the result. A NaN in `x` or `weight`
        reaches the results it takes part in; which gradients it reaches, where `grad` is finite, depends on the
        backend.

    Raises:
        ValueError: shapes, dtypes, devices, stride or padding that do not fit together, or an unknown backend.
        BackendError: a named backend that cannot run on these tensors; "native16" also where values are not finite or
            outliers in both would make the step larger.

    References:
        AdderNet: Do We Really Need Multiplications in Deep Learning? CVPR 2020, arXiv 1912.13200.
    """
    stride, padding = pair("stride", stride, 1), pair("padding", padding, 0)
    check_shapes(x, weight, padding)
    if not x.is_floating_point() or x.dtype != weight.dtype:
        raise ValueError(f"x and weight must share a floating point type, got {x.dtype} and {weight.dtype}")
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend must be one of auto, {', '.join(BACKENDS)}, got {backend!r}")
    return library.adder2d(x, weight, stride, padding, backend)


def pair(name: str, value: int | Sequence[int], least: int) -> list[int]:
    """An argument for both axes or (vertical, horizontal) as the latter; `name` and `least` are for the error."""
    both = list(value) if isinstance(value, Sequence) else [value, value]
    if len(both) != 2 or any(not isinstance(v, SupportsIndex) or not least <= int(v) <= _MOST for v in both):
        raise ValueError(
            f"{name} must be an integer >= {least} (and <= {_MOST}) or a pair of them, got {value!r}"
        )
    return [int(v) for v in both]


def check_shapes(x: Tensor, weight: Tensor, padding: list[int]) -> None:
    """Raise ValueError where input and filters do not fit together; their types are not looked at."""
    if x.dim() != 4:
        raise ValueError(f"x must be (N, C, H, W), got {tuple(x.shape)}")
    if weight.dim() != 4:
        raise ValueError(f"weight must be (O, C, Kh, Kw), got {tuple(weight.shape)}")
    if x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"x has {x.shape[1]} channels, but weight {tuple(weight.shape)} takes {weight.shape[1]}"
        )
    if x.device != weight.device:
        raise ValueError(f"x and weight must be on one device, got {x.device} and {weight.device}")
    if min(x.shape[1:]) < 1:
        raise ValueError(f"x may be empty in N only, got {tuple(x.shape)}")
    if min(weight.shape) < 1:
        raise ValueError(f"weight must not be empty, got {tuple(weight.shape)}")
    for size, kernel, pad in zip(x.shape[2:], weight.shape[2:], padding, strict=True):
        if size + 2 * pad < kernel:
            raise ValueError(
                f"a filter of {tuple(weight.shape[2:])} does not fit into {tuple(x.shape[2:])} "
                f"padded by {tuple(padding)}"
            )
