"""`addersr info`: versions, which backends can run and why others cannot, and the shipped weights."""

import argparse
import platform
import sys

import torch

from addersr import __version__, checkpoint
from addersr.models.quantized import parameter_count
from addersr.ops import BACKENDS, cpu, unavailable_reason


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`info` takes none."""
    parser.epilog = "ADDERSR_ISA=avx512|avx2|portable forces the instruction set of the native kernels."


def run(args: argparse.Namespace) -> int:
    """Print what is known; always 0."""
    print(f"addersr  {__version__}")
    print(f"python   {platform.python_version()} on {platform.machine()} {sys.platform}")
    print(f"torch    {torch.__version__}, {torch.get_num_threads()} threads")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"GPU      {', '.join(gpus) or 'none'}")
    print("\nbackends of adder2d")
    for backend in BACKENDS:
        reason = unavailable_reason(backend)
        uses = {
            "reference": "eager torch, any device and type",
            "native": f"{cpu.instruction_set()}, float32",
            "native16": f"{cpu.instruction_set()}, forward of float32 in 16-bit fixed point",
            "triton": "CUDA, float32, bfloat16 and float16",
        }[backend]
        print(f"  {backend:10} {f'unavailable: {reason}' if reason else f'available ({uses})'}")
    print("  ADDERSR_ISA=avx512|avx2|portable forces the instruction set of the native ones")
    print("\nshipped weights")
    for name, path in checkpoint.shipped().items():
        loaded = checkpoint.load(name)
        parameters = parameter_count(loaded.model) / 1e6
        print(f"  {name:18} x{loaded.model.scale}, {loaded.precision}, {parameters:.2f} M parameters, {path}")
    return 0
