"""AdderSR: super-resolution without multiplications.

`addersr.ops.adder2d` is the operation, `addersr.models` the networks, `addersr.checkpoint` the shipped weights,
`addersr.inference` upscales pictures. Importing this package needs neither lightning nor gradio.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("addersr")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

__all__ = ["__version__"]
