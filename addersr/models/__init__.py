"""The networks, and the presets that name them."""

from addersr.models.edsr import EDSR
from addersr.models.presets import PRESETS, build

__all__ = ["EDSR", "PRESETS", "build"]
