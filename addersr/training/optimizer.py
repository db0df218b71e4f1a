"""Adam and SGD with AdderNet's adaptive local learning rate for adder filters; the learning rate's schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from addersr.layers import AdderConv2d


class AdderAdam(Adam):
    """Adam; groups with an ``eta`` take AdderNet's adaptive local rate in place of Adam's second moment.

    The gradients of adder filters differ in size from layer to layer, since they are not products with
    features as a convolution's are. Chen et al., "AdderNet" (CVPR 2020, arXiv 1912.13200, section 3.3),
    normalise the gradient g of each adder layer's filters F:

        dF = gamma * alpha * g,    alpha = eta * sqrt(k) / ||g||_2

    where gamma is the global learning rate, k the number of elements of F, and ||.||_2 the norm over all of
    them, so dF's root mean square is gamma * eta. Their code has eta = 0.2 and leaves the momentum to the
    optimiser; here too, in Adam's form with its bias correction:

        m_t = beta_1 m_{t-1} + (1 - beta_1) alpha g,    F_t = F_{t-1} - gamma m_t / (1 - beta_1^t)

    Their code normalises in the backward pass. Here it is done in the optimiser's step: gradients are then
    complete, accumulated over micro-batches and reduced over processes, and the result does not depend on
    how the batch was divided. (For Adam itself the normalisation would cancel out: its step does not depend
    on the gradient's scale.)

    Args:
        params: parameters or groups of them; a group may have ``eta`` (float, or None for plain Adam).
        lr, betas, eps: Adam's.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ) -> None:
        # fused: one call for all parameters; a small network's hundred tensors cost milliseconds one by one
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)
        _prepare(self)

    @override
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch's has overloads
        loss = _evaluated(closure)
        with _adaptive(self) as parameters:
            for parameter, gradient, group in parameters:
                self._local_step(parameter, gradient, group)
                # Adam passes over parameters without a gradient, which is how these are kept from it.
                parameter.grad = None
            super().step()
        return loss

    @torch.no_grad()
    def _local_step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, beta = self.state[parameter], group["betas"][0]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["momentum"] = torch.zeros_like(parameter)
        state["step"] += 1
        state["momentum"].lerp_(_normalised(gradient, group["eta"]), 1 - beta)
        correction = 1 - beta ** state["step"].item()
        parameter.add_(state["momentum"], alpha=-group["lr"] / correction)


class AdderSGD(SGD):
    """SGD with momentum; in groups with an ``eta`` it steps by alpha g, as `AdderAdam` defines it, in place of g.

    This is the authors' optimiser, but for weight decay: m_t = mu m_{t-1} + alpha g, F_t = F_{t-1} - gamma m_t. So a
    steady gradient moves a filter by gamma eta / (1 - mu) a step.

    Args:
        params: parameters or groups of them; a group may have ``eta`` (float, or None for plain SGD).
        lr, momentum: SGD's.
    """

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float = 0.1, momentum: float = 0.9
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, fused=True)
        _prepare(self)

    @override
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch's has overloads
        loss = _evaluated(closure)
        with _adaptive(self) as parameters:
            for parameter, gradient, group in parameters:
                parameter.grad = _normalised(gradient, group["eta"])
            super().step()
        return loss


def _prepare(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group.setdefault("eta", None)
    # Fused optimisers undo a gradient scaler's factor and skip overflows in their own kernels, of which the local rate
    # knows nothing. So the scaler is left to do both, which makes clipping possible as well.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]  # torch sets it undeclared


def _evaluated(closure: Callable[[], float] | None) -> float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


@contextmanager
def _adaptive(optimizer: torch.optim.Optimizer) -> Iterator[list[tuple[Tensor, Tensor, dict[str, Any]]]]:
    """The parameters at an adaptive rate with their gradients and groups; afterwards they have these again."""
    groups = [group for group in optimizer.param_groups if group["eta"] is not None]
    found = [(p, p.grad, group) for group in groups for p in group["params"] if p.grad is not None]
    try:
        yield found
    finally:
        for parameter, gradient, _ in found:
            parameter.grad = gradient


def _normalised(gradient: Tensor, eta: float) -> Tensor:
    """alpha g."""
    norm = torch.linalg.vector_norm(gradient).clamp_min(1e-12)  # as in the authors' code
    result: Tensor = gradient * (eta * math.sqrt(gradient.numel()) / norm)
    return result


def adder_filters(model: nn.Module) -> list[nn.Parameter]:
    """The filters of all adder layers."""
    return [module.weight for module in model.modules() if isinstance(module, AdderConv2d)]


def parameter_groups(
    model: nn.Module, lr: float, adder_rate: float, eta: float | None
) -> list[dict[str, Any]]:
    """Two groups: adder filters at ``adder_rate`` times the learning rate (and ``eta``), and all the rest.

    Adder filters start from N(0, 1), most of them beyond the range of the features, where |x - w| depends on the sign
    of w alone. Adam moves every parameter by about lr a step, whatever its gradient: at the rate of the convolutions,
    few of them would change sides in many thousand steps.
    """
    filters = {id(p): p for p in adder_filters(model)}
    rest = [p for p in model.parameters() if id(p) not in filters]
    groups: list[dict[str, Any]] = [{"name": "rest", "params": rest, "lr": lr, "eta": None}]
    if filters:
        groups.append({"name": "adder", "params": list(filters.values()), "lr": lr * adder_rate, "eta": eta})
    return groups


def warmup_cosine(optimizer: torch.optim.Optimizer, warmup: int, total: int, floor: float) -> LambdaLR:
    """Linear from 1 / (warmup + 1) over ``warmup`` steps, then a half cosine to ``floor`` at step ``total``.

    The numbers are factors on the optimiser's learning rate.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
