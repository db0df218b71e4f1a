"""AdderSR: super-resolution without multiplications.

`addersr.upscale` enlarges a picture. `addersr.ops.adder2d` is the operation, `addersr.models` the networks,
`addersr.checkpoint` the shipped weights, `addersr.inference` upscales files. Importing this package needs neither torch
nor lightning nor gradio: what it names is loaded when it is used.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from addersr.inference.api import upscale

try:
    __version__ = version("addersr")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

__all__ = ["__version__", "upscale"]


def __getattr__(name: str) -> Any:
    if name == "upscale":
        from addersr.inference.api import upscale

        return upscale
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
