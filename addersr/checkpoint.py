"""Weights on disk: one safetensors file that carries what it takes to build its network; finds the shipped ones.

The metadata entry "addersr" is a JSON object: "format" (1), "model" (the network's class, "EDSR", "VDSR" or
"QuantizedEDSR", and arguments) and "card" (whatever the trainer says: data, steps, scores, licence). Nothing is ever
unpickled.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from addersr.atomic import replacing
from addersr.errors import CheckpointError
from addersr.models import ARCHITECTURES, EDSR, PRESETS
from addersr.models.presets import Network
from addersr.models.quantized import adder_units, is_quantized, quantized_skeleton

FORMAT = 1
_PACKAGE = Path(__file__).parent
_INSTALLED = _PACKAGE / "checkpoints"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "checkpoints"
"""Where shipped weights are: in an installed package, or else in the source tree."""

DEFAULT_SIZES = ("small", "baseline", "large")
"""Preference among shipped weights when the user names none: the fastest first."""

INT8_SUFFIX = "_int8"
"""Behind the name of shipped weights: their quantised form."""

Precision = Literal["float32", "int8"]

_CLASSES = (*ARCHITECTURES, "QuantizedEDSR")


@dataclass(frozen=True)
class Loaded:
    """A network with its weights."""

    model: Network
    """In eval mode, on the CPU."""
    name: str
    """The preset's name, or the file's without its suffix."""
    metadata: dict[str, Any]
    """The card: what `save` was given."""
    path: Path

    @property
    def precision(self) -> Precision:
        """In what its adder units compute; int8 stands for quantised, to 8 bits or fewer."""
        return "int8" if is_quantized(self.model) else "float32"


def shipped() -> dict[str, Path]:
    """Name -> file of all weights that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.safetensors"))}


def default_name(scale: int) -> str:
    """The shipped model for a user who names none: one in float32, which `load` can take in int8.

    Raises:
        CheckpointError: nothing is shipped for this scale.
    """
    names = shipped()
    for size in DEFAULT_SIZES:
        if (name := f"edsr_{size}_x{scale}") in names:
            return name
    raise CheckpointError(
        f"no weights for x{scale} are shipped; there are {_listed(names)}; or pass --model FILE"
    )


def save(path: str | os.PathLike[str], model: Network, metadata: Mapping[str, Any]) -> None:
    """Write weights and card, atomically.

    Args:
        path: ends in .safetensors.
        model: its parameters and buffers are written; an EDSR's adder units may be quantised ones.
        metadata: the card, as JSON can hold it.

    Raises:
        CheckpointError: the file cannot be written, or has another suffix; or values are not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"weights are written as .safetensors, got {path}")
    if broken := _not_finite(model):
        raise CheckpointError(
            f"the network has values that are not finite, in {broken}: its training diverged"
        )
    kind = "Quantized" * is_quantized(model) + type(model).__name__
    described = {"class": kind, "config": model.config}
    header = {"format": FORMAT, "model": described, "card": dict(metadata)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            # Not by save_file, which renames a file of its own, for its owner only, over the part.
            part.write_bytes(serialize(tensors, {"addersr": json.dumps(header)}))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error


def load(
    name_or_path: str | os.PathLike[str],
    *,
    scale: int | None = None,
    precision: Precision | Literal["auto", "bfloat16"] = "auto",
) -> Loaded:
    """A network by the name of shipped weights, or by a safetensors file written by `save`.

    Args:
        name_or_path: a shipped name such as "edsr_small_x2", or a file.
        scale: the scale that the network must have, if any.
        precision: what its adder units must compute in; "auto" takes the weights as they are. With "int8", a shipped
            name stands for its quantised form, edsr_small_x2 for edsr_small_x2_int8. "bfloat16" is float32 here: it is
            how float32 weights are run (`addersr.inference.upscaler.Upscaler`).

    Raises:
        CheckpointError: there are no such weights, they cannot be read, belong to another architecture, or have
            another scale or precision.
    """
    name = str(name_or_path)
    if precision == "int8" and name in shipped() and name + INT8_SUFFIX in shipped():
        name += INT8_SUFFIX
    path = _find(name)
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("addersr")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error}); `addersr export` makes one from a training checkpoint"
        ) from error
    if header is None:
        raise CheckpointError(f"{path} holds weights of another program: it has no addersr metadata")
    try:
        described = json.loads(header)
        if described["format"] > FORMAT:
            raise CheckpointError(f"{path} has format {described['format']}, which needs a newer addersr")
        kind = described["model"]["class"]
        if kind not in _CLASSES:
            raise CheckpointError(
                f"{path} holds a network of class {kind!r}, which this version does not know; it knows "
                f"{', '.join(_CLASSES)}"
            )
        config = described["model"]["config"]
        # Else a number that somebody made up would be built until memory runs out.
        if max(config.get("blocks", 0), config.get("layers", 0)) > len(tensors):
            raise ValueError(f"more layers than the {len(tensors)} tensors that there are")
        model = quantized_skeleton(config) if kind == "QuantizedEDSR" else ARCHITECTURES[kind](**config)
        card = dict(described["card"])
        model.load_state_dict(tensors)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the metadata of {path} describes no network of this version: {error}"
        ) from error
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {path} belong to another architecture than its metadata says: {_one_line(error)}"
        ) from error
    if broken := _not_finite(model):
        raise CheckpointError(f"{path} holds values that are not finite, in {broken}: its training diverged")
    for key, (step, zero, top) in ((k, t.tolist()) for k, t in tensors.items() if k.endswith(".grid")):
        if not (step > 0 and abs(zero) < 2**22 and 1 <= top <= 255):  # what the kernels rely on
            raise CheckpointError(
                f"{path} holds a grid that cannot be, {key}: step {step}, zero {zero}, top {top}"
            )
    if scale is not None and model.scale != scale:
        raise CheckpointError(
            f"{path.stem} enlarges x{model.scale}, not x{scale}; shipped weights: {_listed(shipped())}"
        )
    loaded = Loaded(model.eval(), path.stem, card, path)
    if {"bfloat16": "float32"}.get(precision, precision) not in ("auto", loaded.precision):
        raise CheckpointError(_other_precision(name, loaded))
    return loaded


def _not_finite(model: Network) -> str | None:
    """The first of its tensors that has such values."""
    return next((name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()), None)


def _other_precision(name: str, loaded: Loaded) -> str:
    if loaded.precision == "int8":
        return f"{name} is quantised to int8; name its float32 weights"
    if not isinstance(loaded.model, EDSR):
        return f"{name} is of {type(loaded.model).__name__}, which has no int8 form"
    if not adder_units(loaded.model):
        return f"{name} is a convolutional network, which has no int8 form"
    file = f"{loaded.name}{INT8_SUFFIX}.safetensors"
    return f"{name} is in float32; quantise it: addersr quantize --model {name} --data PICTURES -o {file}"


def _find(name: str) -> Path:
    available = shipped()
    if name in available:
        return available[name]
    if os.path.isfile(name):  # Path.is_file raises for names that are too long
        return Path(name)
    if name in PRESETS:
        raise CheckpointError(f"no weights for {name} are shipped, train them with `addersr fit`; "
                              f"there are {_listed(available)}")  # fmt: skip
    raise CheckpointError(
        f"no weights are called {name!r} and there is no such file; there are {_listed(available)}"
    )


def _listed(names: Mapping[str, Path]) -> str:
    return ", ".join(names) or "none"


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[1] if len(lines) > 1 else lines[0]
    return line if len(line) <= 200 else line[:200] + " ..."
