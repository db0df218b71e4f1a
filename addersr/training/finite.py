"""Stops a run whose loss or gradients are no longer finite, before the weights are touched, and says where it began."""

from __future__ import annotations

from typing import Any, NoReturn

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from typing_extensions import override

from addersr.data.pairs import Batch
from addersr.errors import AdderSRError
from addersr.training.system import SuperResolution


class Finite(pl.Callback):
    """Looks once a step, before the optimiser, whether the loss and all gradients are finite.

    Where they are not, the run ends there with an error, with the last.ckpt of before. The error names the first
    layer whose result is not finite when the step's batches are computed once more; or, where all results are, the
    parameter nearest to the loss whose gradient is not. On a GPU this waits for the device, once a step.

    With 16-mixed precision, gradients overflow now and then: the scaler passes over the step and lowers its
    factor. So that is an error only where the factor is down to 1.

    Raises:
        AdderSRError: in a step, in one line.
    """

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self._losses: list[Tensor] = []

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._batches.append(batch)

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        assert isinstance(pl_module, SuperResolution)
        gradients = [p.grad for p in pl_module.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        total = sum(self._losses, torch.zeros_like(norm))
        loss, gradient = torch.stack((total, norm)).isfinite().tolist()
        # Gradients have been reduced over the processes and are the same in all; losses have not.
        if trainer.world_size > 1:
            loss = bool(trainer.strategy.reduce(torch.tensor(int(loss), device=norm.device), reduce_op="min"))
        if not loss or not (gradient or _may_overflow(trainer)):
            self._stop(trainer, pl_module)
        self._batches.clear()
        self._losses.clear()

    def _stop(self, trainer: pl.Trainer, module: SuperResolution) -> NoReturn:
        step = trainer.global_step + 1
        where = self._first_result(trainer, module)
        if where is None:
            gradients = {name: p.grad for name, p in module.model.named_parameters() if p.grad is not None}
            broken = [name for name, g in gradients.items() if not torch.linalg.vector_norm(g).isfinite()]
            where = f"the gradient of {broken[-1]}" if broken else "the loss itself"
        if trainer.is_global_zero:
            raise AdderSRError(
                f"training diverged: in step {step}, {where} is not finite; last.ckpt, where there is one, is of "
                "before: go on from it with a lower --model.learning_rate or with --trainer.gradient_clip_val"
            )
        raise SystemExit(0)  # the first process tells

    def _first_result(self, trainer: pl.Trainer, module: SuperResolution) -> str | None:
        """The first layer of any process, in the order of computation, whose result is not finite."""
        names = {layer: name for name, layer in module.model.named_modules()}
        order: list[str] = []
        broken: list[int] = []

        def look(layer: nn.Module, _: Any, result: Any) -> None:
            order.append(f"the result of {names[layer] or 'the network'} ({type(layer).__name__})")
            if isinstance(result, Tensor) and not result.isfinite().all():
                broken.append(len(order) - 1)

        handles = [layer.register_forward_hook(look) for layer in names]
        try:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                for batch in self._batches:
                    order.clear()
                    result = module.model.forward(
                        batch.lr
                    )  # not through what is compiled, which has no hooks
                    look(module.model, (), result)
        finally:
            for handle in handles:
                handle.remove()
        first = torch.tensor(min(broken, default=len(order)), device=module.device)
        first = trainer.strategy.reduce(first, reduce_op="min") if trainer.world_size > 1 else first
        return order[int(first)] if first < len(order) else None


def _may_overflow(trainer: pl.Trainer) -> bool:
    """Whether a gradient that is not finite may be of the loss's factor in 16-mixed precision."""
    precision = trainer.precision_plugin
    scaler = precision.scaler if isinstance(precision, MixedPrecision) else None
    return scaler is not None and scaler.get_scale() > 1
