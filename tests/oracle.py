"""What code is held to: the adder operation and its gradients straight from their definitions, in float64 NumPy; how
far a network sees.
"""

import numpy as np
import torch
from torch import nn

Array = np.ndarray


def forward(x: Array, w: Array, stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    patches = _patches(_pad(x, padding), w, stride)
    return -sum(abs(patch[:, None] - tap[None, :, :, None, None]).sum(2) for patch, tap, _ in patches)


def magnitude(x: Array, w: Array, stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    """Sum of |X| + |W|, the scale of a float result's rounding error."""
    return -forward(abs(x), -abs(w), stride, padding)


def grad_input(g: Array, x: Array, w: Array, stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    padded = _pad(x, padding)
    out = np.zeros_like(padded)
    for patch, tap, view in _patches(padded, w, stride):
        slope = np.clip(tap[None, :, :, None, None] - patch[:, None], -1, 1)
        out[view] += (slope * g[:, :, None]).sum(1)
    return out[:, :, padding[0] : out.shape[2] - padding[0], padding[1] : out.shape[3] - padding[1]]


def grad_weight(g: Array, x: Array, w: Array, stride: tuple[int, int], padding: tuple[int, int]) -> Array:
    taps = [
        ((patch[:, None] - tap[None, :, :, None, None]) * g[:, :, None]).sum((0, 3, 4))
        for patch, tap, _ in _patches(_pad(x, padding), w, stride)
    ]
    return np.stack(taps, -1).reshape(w.shape)


def _pad(x: Array, padding: tuple[int, int]) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))


def _patches(padded: Array, w: Array, stride: tuple[int, int]):
    """For each tap: what it sees (N, C, H', W'), its filter values (O, C), and where it looks."""
    kh, kw = w.shape[2:]
    h, wd = ((padded.shape[2 + a] - w.shape[2 + a]) // stride[a] + 1 for a in (0, 1))
    for i in range(kh):
        for j in range(kw):
            rows = slice(i, i + (h - 1) * stride[0] + 1, stride[0])
            columns = slice(j, j + (wd - 1) * stride[1] + 1, stride[1])
            view = (slice(None), slice(None), rows, columns)
            yield padded[view], w[:, :, i, j], view


def sums_of_differences(
    x: Array, w: Array, stride: tuple[int, int], padding: tuple[int, int], pad_value: int
) -> Array:
    """Sums of absolute differences of bytes in integers, `pad_value` outside the picture."""
    shifted = [v.astype(np.int64) - pad_value for v in (x, w)]  # which the differences do not feel
    return -forward(*shifted, stride, padding)


def assert_rounded(actual: Array, expected: Array, scale: Array, terms: int) -> None:
    """|actual - expected| <= the rounding of summing `terms` float32 numbers of total magnitude `scale`."""
    assert actual.shape == expected.shape
    error = abs(actual - expected)
    bound = 4 * np.sqrt(terms) * np.finfo(np.float32).eps * scale + 1e-30
    assert (error <= bound).all(), f"error {error.max()} at most {(error / bound).max()} times the bound"


def scrambled(model: nn.Module) -> nn.Module:
    """`model` in eval mode with random parameters and the statistics they lead to, so that no path is silent."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
        for _ in range(30):  # moves BatchNorm's statistics most of the way
            model.train()(torch.rand(2, 3, 12, 12, generator=generator))
    return model.double().eval()


def reach(model: nn.Module) -> int:
    """How many LR pixels away a change of one is seen; `model` as `scrambled` leaves it, with its `radius` or so."""
    side = 2 * model.radius + 5
    x = torch.rand(1, 3, side, side, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    changed = x.clone()
    middle = side // 2
    changed[..., middle, middle] = 1 - changed[..., middle, middle]
    with torch.inference_mode():
        seen = (model(x) != model(changed)).any(1)[0].nonzero() // model.scale
    return int((seen - middle).abs().max())
