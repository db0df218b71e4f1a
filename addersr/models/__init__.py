"""The networks, and the presets that name them."""

from addersr.models.edsr import EDSR
from addersr.models.presets import ARCHITECTURES, PRESETS, build, complete
from addersr.models.vdsr import VDSR

__all__ = ["ARCHITECTURES", "EDSR", "PRESETS", "VDSR", "build", "complete"]
