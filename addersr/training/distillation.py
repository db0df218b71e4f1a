"""A teacher: a trained network whose results draw a student's, as a convolutional twin's may an adder network's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from addersr import checkpoint
from addersr.errors import CheckpointError


class Teacher:
    """A frozen network in eval mode, and the distance of a student's results from its own.

    Not a module: it is no part of the student's, so it is neither trained nor averaged nor saved in checkpoints.

    Args:
        name_or_path: a safetensors file or the name of shipped weights, in float32.
        scale: the student's.

    Raises:
        CheckpointError: it cannot be read, or enlarges by another scale.
    """

    def __init__(self, name_or_path: str, scale: int) -> None:
        try:
            loaded = checkpoint.load(name_or_path, precision="float32")
        except CheckpointError as error:
            raise CheckpointError(f"--model.teacher: {error}") from error
        if loaded.model.scale != scale:
            raise CheckpointError(
                f"--model.teacher {name_or_path} enlarges x{loaded.model.scale}, the network in training x{scale}"
            )
        self.model = loaded.model.requires_grad_(False).to(memory_format=torch.channels_last)

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        """Itself: the average of a student's weights is a copy of all that the student has; one teacher is enough."""
        return self

    def to(self, device: torch.device) -> None:
        """Moves it, as the trainer moves the student."""
        self.model.to(device)

    def distance(self, lr: Tensor, sr: Tensor) -> Tensor:
        """Mean absolute difference between a student's results and its own, for a batch (N, 3, H, W)."""
        with torch.no_grad():
            target = self.model(lr)
        return l1_loss(sr, target)
