"""Networks by name: edsr_{tiny,small,baseline,large}_x{2,3,4} and vdsr_x{2,3,4}."""

from typing import Any, TypeAlias

import torch

from addersr.errors import CheckpointError
from addersr.models.edsr import EDSR
from addersr.models.vdsr import VDSR

Network: TypeAlias = EDSR | VDSR

ARCHITECTURES: dict[str, type[EDSR] | type[VDSR]] = {"EDSR": EDSR, "VDSR": VDSR}
"""By the names that weights files and checkpoints have for them."""

_SIZES: dict[str, dict[str, Any]] = {
    "edsr_tiny": {"blocks": 2, "channels": 8},  # for tests
    "edsr_small": {"blocks": 8, "channels": 32},  # trainable on a CPU
    "edsr_baseline": {"blocks": 16, "channels": 64},  # EDSR-baseline
    "edsr_large": {"blocks": 32, "channels": 256},  # EDSR
    "vdsr_tiny": {"layers": 5, "channels": 8},  # for tests
    "vdsr": {"layers": 20, "channels": 64},  # VDSR
}

PRESETS: dict[str, dict[str, Any]] = {
    f"{size}_x{scale}": {"scale": scale, **arguments}
    for size, arguments in _SIZES.items()
    for scale in (2, 3, 4)
}
"""Name -> arguments of `EDSR` or `VDSR`, which the name begins with."""


def build(name: str, **overrides: Any) -> Network:
    """The network `name` with fresh parameters; `overrides` replace arguments of its class, e.g. unit="conv".

    Raises:
        CheckpointError: no preset has this name.
        TypeError, ValueError: an override that the class does not take.
    """
    if name not in PRESETS:
        raise CheckpointError(f"no model is called {name!r}; there are {', '.join(PRESETS)}")
    return ARCHITECTURES[name.partition("_")[0].upper()](**{**PRESETS[name], **overrides})


def complete(architecture: str, config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as the network of today says it: with arguments of later versions, under today's names.

    Raises:
        KeyError, TypeError, ValueError: there is no such architecture or argument.
    """
    with torch.device("meta"):  # no memory, no random numbers
        return ARCHITECTURES[architecture](**config).config
