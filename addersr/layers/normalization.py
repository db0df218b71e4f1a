"""BatchNorm over the batches of all processes that train together.

`torch.nn.SyncBatchNorm` does that on GPUs only. This takes any device, leaves the module and its state dict as they
are, and does nothing in a process of its own.

Gradients are those of the sum of all processes' losses. DistributedDataParallel takes the mean of the gradients that
parameters have in each process, so the parameters get those of the mean loss, as in one process that has the whole
batch.
"""

from typing import Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

Moments = tuple[Tensor, Tensor, Tensor]
"""Mean, biased variance and number of values of each channel, (O) float64."""


def spans_processes(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether `norm` is a BatchNorm in training in one of several processes of torch.distributed.

    Not a SyncBatchNorm, which Lightning's --trainer.sync_batchnorm puts in its place: that one sees to it itself.
    """
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and dist.is_available()
        and dist.is_initialized()
        and dist.get_world_size() > 1
    )


def synchronised(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """`norm` of x in training, as if the batches of all processes were one; all of them have to call it alike.

    Args:
        norm: with learned factors and running statistics of a fixed momentum, as `AdderUnit` has it.
        x: (N, O, H, W), N may differ between the processes. All together need two values a channel.

    Returns:
        (N, O, H, W).
    """
    y, *moments = _Synchronised.apply(x, norm.weight, norm.bias, norm.eps)
    remember(norm, *moments)
    assert isinstance(y, Tensor)
    return y


def synchronised_unit(
    norm: nn.BatchNorm2d, sums: Tensor, x: Tensor | None, gain: Tensor | None, alpha: Tensor, power_eps: float
) -> Tensor:
    """`addersr.ops.unit` with the statistics of all processes, as `synchronised` has them."""
    y, *moments = _SynchronisedUnit.apply(sums, x, gain, norm.weight, norm.bias, alpha, norm.eps, power_eps)
    remember(norm, *moments)
    assert isinstance(y, Tensor)
    return y


@torch.no_grad()
def remember(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: Tensor | int) -> None:
    """Moves the running statistics of a BatchNorm towards a batch's: mean and biased variance of `count` values."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    for running, value in ((norm.running_mean, mean), (norm.running_var, variance * (count / (count - 1)))):
        running.mul_(1 - norm.momentum).add_(value, alpha=norm.momentum)


def _own_moments(x: Tensor) -> Moments:
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return (
        mean.double(),
        variance.double(),
        torch.full_like(mean, x.numel() // x.shape[1], dtype=torch.float64),
    )


def _all_moments(mean: Tensor, variance: Tensor, count: Tensor) -> Moments:
    """Of all processes together; in float64, for the squares of the means are taken off again."""
    sums = torch.stack((count * mean, count * (variance + mean.square()), count))
    dist.all_reduce(sums)
    mean, square = sums[0] / sums[2], sums[1] / sums[2]
    return mean, (square - mean.square()).clamp_min(0), sums[2]


class _Synchronised(torch.autograd.Function):
    """The normalisation: one sum over the processes forward and one backward, of a few numbers a channel."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]  # torch has no type for ctx
        ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The result, and the moments."""
        mean, variance, count = _all_moments(*_own_moments(x))
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return _standardised(x, mean, scale) * _along(weight, x) + _along(bias, x), mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[no-untyped-def]  # as above
        ctx, grad: Tensor, *_: Any
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        """To x through the statistics of all processes; to weight and bias what this one's values give."""
        x, weight, mean, scale, count = ctx.saved_tensors
        standard = _standardised(x, mean, scale)
        of_bias, of_weight = grad.sum((0, 2, 3)), (grad * standard).sum((0, 2, 3))
        sums = torch.stack((of_bias, of_weight)).double()
        dist.all_reduce(sums)
        shift, slope = (_along(s, x) for s in sums / count)
        of_x = (grad - shift - standard * slope) * _along(weight * scale, x)
        return of_x, of_weight, of_bias, None


class _SynchronisedUnit(torch.autograd.Function):
    """The fused unit, which takes the statistics of its own batch, made to give what those of all processes would.

    Forward, its BatchNorm's factor and summand are such that they lead from the one normalisation to the other.
    Backward, what the two differ by is a linear function of the sums in each channel.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]  # torch has no type for ctx
        ctx,
        sums: Tensor,
        x: Tensor | None,
        gain: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        alpha: Tensor,
        norm_eps: float,
        power_eps: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The result, and the moments."""
        own = _own_moments(sums)
        mean, variance, count = _all_moments(*own)
        scale = (variance + norm_eps).rsqrt()
        factor = (weight * scale * (own[1] + norm_eps).sqrt()).to(weight.dtype)
        summand = (bias + weight * scale * (own[0] - mean)).to(bias.dtype)
        inputs = (sums, x, gain, factor, summand, alpha)
        y, statistics = torch.ops.addersr.unit(*inputs, norm_eps, power_eps)
        ctx.eps = norm_eps, power_eps
        ctx.save_for_backward(*inputs, statistics, weight, mean, scale, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[no-untyped-def]  # as above
        ctx, grad: Tensor, *_: Any
    ) -> tuple[Tensor | None, ...]:
        """As `_Synchronised` and the rest of the unit."""
        *inputs, statistics, weight, mean, scale, count = ctx.saved_tensors
        sums, x, gain, *_ = inputs
        of_sums, of_x, of_gain, of_factor, of_bias, of_alpha = torch.ops.addersr.unit_backward(
            grad, statistics, *inputs, *ctx.eps
        )
        # The kernel's own normalisation s -> (s - own_mean) own_scale, and its terms in the gradient to s.
        own_mean, own_scale = statistics[0], (statistics[1] + ctx.eps[0]).rsqrt()
        own_count = sums.numel() // sums.shape[1]
        of_weight = scale * (of_factor / own_scale + (own_mean - mean) * of_bias)
        totals = torch.stack((of_bias.double(), of_weight))
        dist.all_reduce(totals)
        shift, slope = totals / count
        change = weight * scale * (own_scale * of_factor / own_count - scale * slope)
        constant = weight * scale * (of_bias / own_count - shift - scale * (own_mean - mean) * slope)
        of_sums = of_sums + (sums - _along(own_mean, sums)) * _along(change, sums) + _along(constant, sums)
        return (
            of_sums,
            None if x is None else of_x,
            None if gain is None else of_gain,
            of_weight.to(weight.dtype),
            of_bias,
            of_alpha,
            None,
            None,
        )


def _standardised(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return (x - _along(mean, x)) * _along(scale, x)


def _along(channels: Tensor, x: Tensor) -> Tensor:
    """(O) -> (O, 1, 1) in the type of x."""
    return channels.to(x.dtype)[:, None, None]
