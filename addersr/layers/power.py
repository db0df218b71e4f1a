"""Learnable powers: the power activation of a unit, and the Box-Cox high-pass stage in front of a network."""

import math

import torch
from torch import Tensor, nn


class PowerActivation(nn.Module):
    """sign(y) |y|^alpha with one learnable alpha, starting at 1 (AdderSR, section 3.2).

    Any shape. For alpha < 1 the derivative is singular at 0, so the curve is shifted by a small constant,
    sign(y) ((|y| + eps)^alpha - eps^alpha): still odd, 0 at 0, the identity at alpha = 1, and with the finite slope
    alpha eps^(alpha - 1) at 0.
    """

    eps = 1e-4

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(()))

    def forward(self, y: Tensor) -> Tensor:
        """Same shape."""
        result: Tensor = _Power.apply(y, self.alpha, self.eps)
        return result


class _Power(torch.autograd.Function):
    """`PowerActivation` in few passes over memory: autograd's own chain would keep and read a dozen of them."""

    @staticmethod
    def forward(ctx, y: Tensor, alpha: Tensor, eps: float) -> Tensor:  # type: ignore[no-untyped-def]
        """sign(y) (u^alpha - eps^alpha) with u = |y| + eps."""
        log = y.abs().add_(eps).log_()
        result = log.mul(alpha).exp_().sub_(eps**alpha).mul_(y.sign())
        ctx.save_for_backward(log, result, alpha)
        ctx.eps = eps
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[no-untyped-def]
        """alpha u^(alpha - 1) grad, and the sum of sign(y) (u^alpha log u - eps^alpha log eps) grad."""
        log, result, alpha = ctx.saved_tensors
        floor = ctx.eps**alpha
        growth = result.abs().add_(floor).mul_(log).sub_(floor * math.log(ctx.eps))
        slope = log.mul(alpha - 1).exp_().mul_(alpha).mul_(grad)
        return slope, growth.mul_(result.sign()).mul_(grad).sum(), None


class BoxCoxHighPass(nn.Module):
    """The high-pass residue of a learnable Box-Cox transform: what an adder layer cannot extract from a picture.

    T(x) = ((x + eps)^lambda - 1) / lambda, with its limit log(x + eps) at lambda = 0, minus its own low-pass (a 5x5
    binomial filter, the border replicated). A constant picture gives 0 whatever its level and lambda, whereas no
    filter makes an adder layer answer all constant pictures alike (AdderSR, section 3.2).

    Shapes: (N, C, H, W) in [0, 1] -> (N, C, H, W), around 0.

    References:
        Box and Cox, An analysis of transformations, JRSS B 26 (1964).
    """

    eps = 0.01
    radius = 2
    """Input pixels that a result depends on, in every direction."""

    def __init__(self) -> None:
        super().__init__()
        self.lam = nn.Parameter(torch.tensor(0.5))

    def transform(self, x: Tensor) -> Tensor:
        """T(x), same shape; values below 0 count as 0."""
        log = (x.clamp_min(0) + self.eps).log()
        power = log * self.lam
        near_zero = self.lam.abs() < 1e-3
        series = log * (1 + power / 2 + power**2 / 6 + power**3 / 24)
        # where() passes gradients of both branches on: keep the unused one finite.
        return torch.where(near_zero, series, torch.expm1(power) / torch.where(near_zero, 1.0, self.lam))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        curved = self.transform(x)
        return curved - _low_pass(_low_pass(curved, 2), 3)


def _low_pass(x: Tensor, dim: int) -> Tensor:
    """Binomial filter (1, 4, 6, 4, 1) / 16 along `dim`, the border replicated. Same shape."""
    first, last, size = x.narrow(dim, 0, 1), x.narrow(dim, -1, 1), x.shape[dim]
    padded = torch.cat((first, first, x, last, last), dim)
    taps = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
    a, b, c, d, e = (tap * padded.narrow(dim, i, size) for i, tap in enumerate(taps))
    return a + b + c + d + e
