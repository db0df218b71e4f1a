"""Reading the files that training writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from addersr.errors import CheckpointError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A Lightning checkpoint, on the CPU; nothing in the file is executed.

    Raises:
        CheckpointError: there is no such file, or it is not a whole checkpoint.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        beside = ", ".join(sorted(other.name for other in path.parent.glob("*.ckpt")))
        hint = f"; beside it there is {beside}" if beside else ""
        raise CheckpointError(f"there is no checkpoint {path}{hint}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # torch's unpickler, fed a damaged file, may raise anything
        raise CheckpointError(f"{path} is not a checkpoint of addersr fit, or is damaged") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{path} is not a checkpoint of addersr fit")
    return content
