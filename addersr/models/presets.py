"""Networks by name: edsr_{tiny,small,baseline,large}_x{2,3,4}."""

from typing import Any

from addersr.errors import CheckpointError
from addersr.models.edsr import EDSR

_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"blocks": 2, "channels": 8},  # for tests
    "small": {"blocks": 8, "channels": 32},  # trainable on a CPU
    "baseline": {"blocks": 16, "channels": 64},  # EDSR-baseline
    "large": {"blocks": 32, "channels": 256},  # EDSR
}

PRESETS: dict[str, dict[str, Any]] = {
    f"edsr_{size}_x{scale}": {"scale": scale, **arguments}
    for size, arguments in _SIZES.items()
    for scale in (2, 3, 4)
}
"""Name -> arguments of `EDSR`."""


def build(name: str, **overrides: Any) -> EDSR:
    """The network `name` with fresh parameters; `overrides` replace arguments of `EDSR`, e.g. unit="conv".

    Raises:
        CheckpointError: no preset has this name.
        TypeError, ValueError: an override that `EDSR` does not take.
    """
    if name not in PRESETS:
        raise CheckpointError(f"no model is called {name!r}; there are {', '.join(PRESETS)}")
    return EDSR(**{**PRESETS[name], **overrides})
