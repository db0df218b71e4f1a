"""Speed of whole networks, 320x180 -> 640x360, beside their convolutional twins: ratios within one run, medians.

    python benchmarks/networks.py [--json FILE] [--repeats 7]

The adder networks are prepared for inference (`FusedEDSR`), in float32 and with quantised units. The twin is what
configs/twin.yaml trains, in torch (channels last), in ONNX Runtime and OpenVINO. Int8 twins are quantised
by ONNX Runtime in both its formats, once all that it can and once the convolutions alone: the fastest counts. Weights
are random, for no candidate's time depends on them. Memory is the peak growth of a fresh process at its first picture,
or for torch.compile, which needs one to compile, at its second. Scaling is that of the int8 adder network from one
thread to two, each in a process of its own. How times are taken is said in `measure.py`.

Run nothing else beside it. glibc's allocator is told to keep large blocks, or page faults would dominate.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import measure
import runtimes
import torch
from measure import Call, MissingError
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed

from addersr.errors import AdderSRError
from addersr.inference.fused import FusedEDSR
from addersr.inference.onnx import export_onnx
from addersr.layers import AdderConv2d
from addersr.layers.quantized import QuantizedUnit
from addersr.models import EDSR, build
from addersr.models.quantized import adder_units

PRESETS = ("edsr_small_x2", "edsr_baseline_x2")
SIZE, TINY = (180, 320), (8, 8)
QUANTIZED = {
    f"{form} {what}": (form, kinds)
    for form in runtimes.FORMATS
    for what, kinds in (("all", None), ("convolutions", ["Conv"]))
}
OPENVINO = [name for name, (form, _) in QUANTIZED.items() if form == "QDQ"]  # the form that it reads


def network(preset: str, unit: str) -> EDSR:
    """In eval mode, with statistics of one noisy picture and a last layer that is not zero."""
    torch.manual_seed(0)
    model = build(preset) if unit == "adder" else build(preset, unit="conv", residual_scaling=1.0)
    nn.init.normal_(model.tail.weight, std=0.02)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.rand(1, 3, 32, 32))
    return model.eval()


def picture(size: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) noise, channels last."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, *size, generator=generator).contiguous(memory_format=torch.channels_last)


def adder_float32(preset: str, size: tuple[int, int]) -> Call:
    return partial(FusedEDSR(network(preset, "adder")), picture(size))


def adder_int8(preset: str, size: tuple[int, int]) -> Call:
    model = network(preset, "adder")
    for name, unit in adder_units(model).items():
        model.set_submodule(name, QuantizedUnit.of(unit, -1.0, 1.0))  # any range is as fast
    return partial(FusedEDSR(model), picture(size))


def twin(preset: str, size: tuple[int, int], dtype: torch.dtype) -> Call:
    model = network(preset, "conv").to(dtype).to(memory_format=torch.channels_last)
    return torch.inference_mode()(partial(model, picture(size).to(dtype)))


def compiled_twin(preset: str, size: tuple[int, int]) -> Call:
    model = torch.compile(network(preset, "conv").to(memory_format=torch.channels_last), dynamic=False)
    call: Call = torch.inference_mode()(partial(model, picture(size)))
    try:
        call()
    except BackendCompilerFailed as error:  # for want of a C++ compiler, for one
        raise MissingError(f"torch.compile: {str(error).splitlines()[0]}") from error
    return call


def twin_onnxruntime(variant: str, folder: Path, preset: str, size: tuple[int, int]) -> Call:
    return runtimes.session(_onnx(variant, folder, preset), picture(size).contiguous().numpy())


def twin_openvino(variant: str, folder: Path, preset: str, size: tuple[int, int]) -> Call:
    return runtimes.network_openvino(_onnx(variant, folder, preset), picture(size).contiguous().numpy())


def _onnx(variant: str, folder: Path, preset: str) -> Path:
    """The twin's file, "float32" or of a name in `QUANTIZED`, written at the first call."""
    path = folder / f"{preset} {variant}.onnx"
    if path.exists():
        return path
    if variant != "float32":
        runtimes.quantize(_onnx("float32", folder, preset), path, *QUANTIZED[variant])
        return path
    try:
        export_onnx(network(preset, "conv"), path)
    except AdderSRError as error:
        raise MissingError(str(error)) from error
    return path


def candidates(folder: Path) -> dict[str, Callable[[str, tuple[int, int]], Call]]:
    """Name -> function that prepares a call for a preset and a size; `folder` keeps ONNX models."""
    return {
        "adder int8": adder_int8,
        "adder float32": adder_float32,
        "conv float32": partial(twin, dtype=torch.float32),
        "conv float32 compiled": compiled_twin,
        "conv bfloat16": partial(twin, dtype=torch.bfloat16),
        "conv float32 ONNX Runtime": partial(twin_onnxruntime, "float32", folder),
        **{f"conv int8 ONNX Runtime {name}": partial(twin_onnxruntime, name, folder) for name in QUANTIZED},
        **{f"conv int8 OpenVINO {name}": partial(twin_openvino, name, folder) for name in OPENVINO},
    }


RATIOS = {
    "network_int8_vs_float32": ("adder int8", ["conv float32"]),
    "network_int8_vs_compiled_float32": ("adder int8", ["conv float32 compiled"]),
    "network_int8_vs_bf16": ("adder int8", ["conv bfloat16"]),
    "network_int8_vs_onnxruntime_float32": ("adder int8", ["conv float32 ONNX Runtime"]),
    "network_int8_vs_onnxruntime_int8": (
        "adder int8",
        [f"conv int8 ONNX Runtime {name}" for name in QUANTIZED],
    ),
    "network_int8_vs_openvino_int8": ("adder int8", [f"conv int8 OpenVINO {name}" for name in OPENVINO]),
    "network_float32_vs_float32": ("adder float32", ["conv float32"]),
}


def ratios(seconds: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    """Of speeds, from each preset's times: under each name the smallest of the presets', then each preset's own."""
    result: dict[str, float | None] = {}
    for name, (ours, theirs) in RATIOS.items():
        each = {preset: measure.speed_ratio(times, ours, theirs) for preset, times in seconds.items()}
        known = [ratio for ratio in each.values() if ratio is not None]
        result[name] = min(known) if known else None
        result |= {f"{name} {preset}": ratio for preset, ratio in each.items()}
    return result


def work(preset: str, size: tuple[int, int]) -> int:
    """MACs and sums of absolute differences of one picture; all layers but the last are at its own resolution."""
    model = build(preset)
    layers = [m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | AdderConv2d)]
    return size[0] * size[1] * (sum(layers) + (model.scale**2 - 1) * model.tail.weight.numel())


def scaling(preset: str, repeats: int) -> float:
    """How many times as fast the int8 network is with two threads as with one."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as one, context.Pool(1) as two:
        blocks = {
            str(threads): partial(pool.apply, _block, (preset, threads))
            for threads, pool in ((1, one), (2, two))
        }
        seconds = measure.medians(blocks, repeats, f"threads {preset}")
    return seconds["1"] / seconds["2"]


def _block(preset: str, threads: int) -> list[float]:
    return measure.block(_int8_with(preset, threads))


@cache
def _int8_with(preset: str, threads: int) -> Call:
    _keep_memory()
    torch.set_num_threads(threads)
    return adder_int8(preset, SIZE)


def _keep_memory() -> None:
    from addersr.training.command import keep_memory  # here, for most processes need no lightning

    keep_memory()


def main() -> None:
    args = measure.parse_arguments("Speed of whole networks beside their convolutional twins.", repeats=7)
    measure.need_kernels()
    _keep_memory()
    report, seconds = measure.Report(), {}
    with tempfile.TemporaryDirectory() as folder:
        prepare = candidates(Path(folder))
        for preset in PRESETS:
            named = {f"{preset} {name}": each for name, each in prepare.items()}
            tiny, full = (preset, TINY), (preset, SIZE)
            times, _ = measure.compare(
                report, preset, named, tiny, full, (1, 3, *SIZE), work(preset, SIZE), args.repeats
            )
            seconds[preset] = {name.removeprefix(f"{preset} "): value for name, value in times.items()}
    report.ratios |= ratios(seconds)
    for preset in PRESETS:
        enough = (os.cpu_count() or 1) > 1
        report.ratios[f"scaling_1_to_2 {preset}"] = scaling(preset, args.repeats) if enough else None
    report.finish(args.json)


if __name__ == "__main__":
    main()
