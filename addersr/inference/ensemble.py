"""The x8 geometric self-ensemble: a picture goes through a network turned and mirrored in all eight ways."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["VIEWS", "mean_of_views", "seen", "unseen"]

VIEWS = [(turns, mirrored) for mirrored in (False, True) for turns in range(4)]
"""The eight ways to lay a rectangle on a grid: (quarter turns counter-clockwise, mirrored left to right before)."""


def seen(x: Tensor, turns: int, mirrored: bool) -> Tensor:
    """A view of pictures: (N, C, H, W), or (N, C, W, H) after an odd number of turns."""
    return torch.rot90(x.flip(3) if mirrored else x, turns, (2, 3))


def unseen(x: Tensor, turns: int, mirrored: bool) -> Tensor:
    """The inverse of `seen`."""
    turned = torch.rot90(x, -turns, (2, 3))
    return turned.flip(3) if mirrored else turned


def mean_of_views(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The mean of what a network makes of the eight views of a picture, each laid back.

    The views go through one after the other, so that it takes no more memory than the network alone and two more
    results. The mean is of numbers as the network gives them, neither clipped nor rounded.

    Args:
        network: (N, 3, H, W) channels last in memory -> (N, 3, s H, s W), for any H and W.
        x: (N, 3, H, W).

    References:
        Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPRW 2017, section 4.3.
    """
    total: Tensor | None = None
    for view in VIEWS:
        turned = seen(x, *view).contiguous(memory_format=torch.channels_last)
        result = unseen(network(turned), *view)
        total = result if total is None else total + result
    assert total is not None
    return total / len(VIEWS)
