"""Weights to start training from: all of them, or what another scale has in common."""

from __future__ import annotations

from lightning.fabric.utilities import rank_zero_info

from addersr import checkpoint
from addersr.errors import CheckpointError
from addersr.models import EDSR
from addersr.models.presets import Network

OF_SCALE = ("upsampler", "tail")
"""The parts of an EDSR that belong to its scale (a VDSR has none): the enlarging layers, whose shapes or number differ,
and the last layer, which learned to read their result. A fresh last layer is zero, so that training starts from the
enlarged picture and not from noise."""


def initialise(model: Network, name_or_path: str) -> None:
    """Gives ``model`` the weights of a file or of shipped weights, and says in one line which.

    Weights of another scale are taken but for the parts `OF_SCALE`, which stay as they are.

    Raises:
        CheckpointError: they cannot be read, or are of a network that differs in anything but its scale.
    """
    try:
        loaded = checkpoint.load(name_or_path, precision="float32")
    except CheckpointError as error:
        raise CheckpointError(f"--model.init_from: {error}") from error
    theirs = loaded.model.config
    differ = {key for key, value in model.config.items() if theirs.get(key) != value}
    if differ - {"scale"}:
        raise CheckpointError(
            f"--model.init_from {name_or_path} is another network: {', '.join(sorted(differ - {'scale'}))} differ "
            "from this one's"
        )
    own, weights = model.state_dict(), loaded.model.state_dict()
    parts = OF_SCALE if differ and isinstance(model, EDSR) else ()
    anew = {key: value for key, value in own.items() if _part(key) in parts}
    model.load_state_dict({key: value for key, value in weights.items() if _part(key) not in parts} | anew)
    if anew:
        taken = dict.fromkeys(_part(key) for key in own if key not in anew)
        what = f"{', '.join(taken)} are taken; {' and '.join(parts)} start anew for x{model.scale}"
    else:
        what = "all weights are taken"
    rank_zero_info(f"Starting from {name_or_path}, x{loaded.model.scale}: {what}")


def _part(key: str) -> str:
    return key.partition(".")[0]
