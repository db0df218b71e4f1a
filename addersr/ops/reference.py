"""The oracle: the adder operation and its surrogate gradients in readable eager torch, on any device and dtype.

Memory stays bounded: the work is cut along the filters and the rows of the output so that no temporary exceeds
`CHUNK_ELEMENTS`, or what a single filter needs on a single row where that is more. Filters are cut first, then rows.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22
"""Upper bound on the elements of one temporary, unless a single filter on a single row is larger."""

Pair = list[int]
InputSlope = Callable[[Tensor], Tensor]


def hard_tanh_slope(difference: Tensor) -> Tensor:
    """AdderNet's surrogate slope of -|x - w| with respect to x, from w - x (eq. 8)."""
    return difference.clamp(-1, 1)


def sign_slope(difference: Tensor) -> Tensor:
    """The true slope of -|x - w| with respect to x, from w - x."""
    return difference.sign()


def output_size(
    x_shape: torch.Size, weight_shape: torch.Size, stride: Pair, padding: Pair
) -> tuple[int, int]:
    """(H', W') of the operation's result."""
    h, w = (
        (size + 2 * pad - kernel) // step + 1
        for size, kernel, step, pad in zip(x_shape[2:], weight_shape[2:], stride, padding, strict=True)
    )
    return h, w


def forward(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """(N, C, H, W), (O, C, Kh, Kw) -> (N, O, H', W'), channels last."""
    h, w = output_size(x.shape, weight.shape, stride, padding)
    out = _empty_like_result(x, weight, h, w)
    padded = _pad(x, padding)
    for rows, filters, difference in _differences(padded, weight, stride, h, w):
        out[:, filters, rows] = -difference.abs().sum((2, 5, 6))
    return out


def grad_input(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, slope: InputSlope = hard_tanh_slope
) -> Tensor:
    """sum of slope(W - X) grad over filters and positions: (N, O, H', W') -> (N, C, H, W), channels last."""
    h, w = grad.shape[2:]
    padded = _pad(x, padding)
    out = torch.zeros_like(padded, memory_format=torch.channels_last)
    windows = _windows(out, weight.shape, stride)
    for rows, filters, difference in _differences(padded, weight, stride, h, w):
        # (N, O, C, H', W', Kh, Kw) weighted by grad and summed over the filters
        share = (slope(-difference) * grad[:, filters, rows][:, :, None, :, :, None, None]).sum(1)
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                windows[:, :, rows, :, i, j] += share[..., i, j]
    top, left = padding
    inner = out[:, :, top : out.shape[2] - top, left : out.shape[3] - left]
    return inner.contiguous(memory_format=torch.channels_last)


def grad_weight(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, slope: InputSlope | None = None
) -> Tensor:
    """sum of (X - W) grad over the batch and the positions: -> (O, C, Kh, Kw).

    With a `slope`, sum of slope(X - W) grad instead: `sign_slope` gives the true derivative.
    """
    h, w = grad.shape[2:]
    out = torch.zeros_like(weight, memory_format=torch.contiguous_format)
    for rows, filters, difference in _differences(_pad(x, padding), weight, stride, h, w):
        share = difference if slope is None else slope(difference)
        out[filters] += (share * grad[:, filters, rows][:, :, None, :, :, None, None]).sum((0, 3, 4))
    return out


class ExactSign(torch.autograd.Function):
    """The operation with its true derivative, on the same indexing as the surrogates: what gradcheck can check."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:  # type: ignore[no-untyped-def]
        """As `forward` of this module."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return forward(x, weight, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[no-untyped-def]
        """Both gradients with the exact sign."""
        x, weight = ctx.saved_tensors
        rest = (grad, x, weight, ctx.stride, ctx.padding, sign_slope)
        return grad_input(*rest), grad_weight(*rest), None, None


def _empty_like_result(x: Tensor, weight: Tensor, h: int, w: int) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0], h, w)).contiguous(memory_format=torch.channels_last)


def _pad(x: Tensor, padding: Pair) -> Tensor:
    return F.pad(x, (padding[1], padding[1], padding[0], padding[0]))


def _windows(padded: Tensor, weight_shape: torch.Size, stride: Pair) -> Tensor:
    """A view (N, C, H', W', Kh, Kw) of every patch."""
    return padded.unfold(2, weight_shape[2], stride[0]).unfold(3, weight_shape[3], stride[1])


def _differences(
    padded: Tensor, weight: Tensor, stride: Pair, h: int, w: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield (rows, filters, X - W) with X - W of shape (N, filters, C, rows, W', Kh, Kw), each bounded."""
    windows = _windows(padded, weight.shape, stride)
    row_elements = max(1, padded.shape[0] * w * weight[0].numel())
    filters = max(1, min(weight.shape[0], CHUNK_ELEMENTS // row_elements))
    rows = max(1, CHUNK_ELEMENTS // (row_elements * filters))
    for top in range(0, h, rows):
        band = slice(top, min(top + rows, h))
        for first in range(0, weight.shape[0], filters):
            some = slice(first, first + filters)
            yield band, some, windows[:, None, :, band] - weight[some][None, :, :, None, None]
