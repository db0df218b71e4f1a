"""Speed of one adder layer, 3x3, beside convolutions of the same shape: ratios within one run, medians.

    python benchmarks/ops.py [--json FILE] [--repeats 15]

SAD/s counts one sum-of-absolute-differences term where a convolution has one MAC. "adder float32" is what `adder2d`
does by itself, on a CPU in 16-bit fixed point (`native16`); "exact" is `native`, in float32 throughout. "adder int8" is
`sad2d`, bytes to 32-bit sums, its filters packed in each call; "adder int8 unit" is a whole unit at inference, from
floats to floats with quantising and the power activation. The int8 convolutions go from bytes to bytes. "step" is
forward and backward to input and filters. The official formulation (AdderNet's adder.py: unfold, broadcast, absolute
value, sum) is timed on a part of the picture and both are measured on that part. Memory is the peak growth of the
process above the inputs, each measured in a fresh process. How times are taken is said in `measure.py`.

Run nothing else beside it. glibc's allocator is told to keep large blocks, or page faults would dominate.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import measure
import runtimes
import torch
import torch.nn.functional as F
from measure import Call
from torch import Tensor

from addersr.ops import adder2d
from addersr.ops.fused import ByteUnit, Grid, Tail
from addersr.ops.int8 import sad2d

SHAPES = [(1, 64, 180, 320), (16, 64, 48, 48), (1, 32, 180, 320), (16, 32, 48, 48)]
RATIO_SHAPE = SHAPES[0]
OFFICIAL_SHAPE = (1, 64, 60, 80)


def official(x: Tensor, weight: Tensor) -> Tensor:
    """The official formulation: a (filters, C * K * K, pixels) temporary. (N, C, H, W) -> (N, O, H, W), padding 1."""
    n, _, h, w = x.shape
    columns = F.unfold(x, 3, padding=1).permute(1, 2, 0).reshape(weight[0].numel(), -1)
    y = -(weight.reshape(weight.shape[0], -1, 1) - columns[None]).abs().sum(1)
    return y.view(weight.shape[0], h, w, n).permute(3, 0, 1, 2)


def inputs(shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Random input and filters, channels last."""
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(shape[1], shape[1], 3, 3).contiguous(memory_format=torch.channels_last)
    return x, weight


def step(layer: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> Call:
    """Forward and backward of one layer, to input and filters."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    grad = torch.randn_like(x)

    def run() -> None:
        x.grad = weight.grad = None
        layer(x, weight).backward(grad)

    return run


def adder(x: Tensor, weight: Tensor, backend: str = "auto") -> Tensor:
    return adder2d(x, weight, 1, 1, backend)


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def _forward(layer: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, shape: Sequence[int]) -> Call:
    return torch.inference_mode()(partial(layer, *(t.to(dtype) for t in inputs(shape))))


def _official(shape: Sequence[int]) -> Call:
    x, weight = inputs(shape)
    return torch.inference_mode()(partial(official, x, weight.contiguous()))


def _step(layer: Callable[[Tensor, Tensor], Tensor], shape: Sequence[int]) -> Call:
    return step(layer, *inputs(shape))


def _sums_of_bytes(shape: Sequence[int]) -> Call:
    x, weight = ((t * 32 + 128).clamp(0, 255).to(torch.uint8).contiguous() for t in inputs(shape))
    return partial(sad2d, x, weight, stride=1, padding=1, pad_value=128)


def _byte_unit(shape: Sequence[int]) -> Call:
    x, weight = inputs(shape)
    x = x.to(ByteUnit.dtype, memory_format=ByteUnit.memory_format)
    grid, channels = Grid.between(-2.0, 2.0, 8), shape[1]
    scale = torch.full((channels,), -1 / weight[0].numel())
    tail = Tail(scale, torch.ones(channels), gain=1.0, relu=True, alpha=0.8, eps=1e-6)
    return partial(ByteUnit(grid.bytes_of(weight), grid, tail), x, torch.empty_like(x))


INT8_ELSEWHERE: dict[str, Callable[[Sequence[int]], Call]] = {
    **{
        f"conv int8 ONNX Runtime {form}": partial(runtimes.int8_convolution_onnxruntime, quant_format=form)
        for form in runtimes.FORMATS
    },
    "conv int8 OpenVINO": runtimes.int8_convolution_openvino,
}
FORWARD: dict[str, Callable[[Sequence[int]], Call]] = {
    "adder float32": partial(_forward, adder, torch.float32),
    "adder float32 exact": partial(_forward, partial(adder, backend="native"), torch.float32),
    "adder int8": _sums_of_bytes,
    "adder int8 unit": _byte_unit,
    "conv float32": partial(_forward, convolution, torch.float32),
    "conv bfloat16": partial(_forward, convolution, torch.bfloat16),
    **INT8_ELSEWHERE,
}
STEPS: dict[str, Callable[[Sequence[int]], Call]] = {
    "adder float32 step": partial(_step, adder),
    "conv float32 step": partial(_step, convolution),
}
OFFICIAL: dict[str, Callable[[Sequence[int]], Call]] = {
    "adder float32": FORWARD["adder float32"],
    "official adder float32": _official,
}


def _compare(
    report: measure.Report,
    candidates: Mapping[str, Callable[[Sequence[int]], Call]],
    shape: tuple[int, ...],
    repeats: int,
    forwards: int = 1,
) -> tuple[dict[str, float], dict[str, float | None]]:
    """`measure.compare` of candidates that do the work of so many forwards."""
    n, c, h, w = shape
    work, tiny = forwards * n * h * w * c * c * 9, [(1, c, 4, 4)]
    label = "x".join(map(str, shape))
    return measure.compare(report, label, candidates, tiny, [shape], shape, work, repeats)


def ratios(seconds: Mapping[str, float]) -> dict[str, float | None]:
    """From the times at `RATIO_SHAPE`: the step's is a ratio of times, the others are of speeds."""
    speed = partial(measure.speed_ratio, seconds)
    return {
        "float32_vs_conv": speed("adder float32", ["conv float32"]),
        "float32_exact_vs_conv": speed("adder float32 exact", ["conv float32"]),
        "int8_vs_conv": speed("adder int8", ["conv float32"]),
        "int8_vs_bf16": speed("adder int8", ["conv bfloat16"]),
        # the fastest of ONNX Runtime's two formats and OpenVINO
        "int8_vs_onnxruntime_int8": speed("adder int8", list(INT8_ELSEWHERE)),
        "int8_unit_vs_conv": speed("adder int8 unit", ["conv float32"]),
        "step_vs_conv": seconds["adder float32 step"] / seconds["conv float32 step"],
    }


def main() -> None:
    args = measure.parse_arguments("Speed of one adder layer beside convolutions.", repeats=15)
    measure.need_kernels()
    # here, for the processes that measure memory need no lightning
    from addersr.training.command import keep_memory

    keep_memory()
    report = measure.Report()
    for shape in SHAPES:
        forward, _ = _compare(report, FORWARD, shape, args.repeats)
        steps, _ = _compare(report, STEPS, shape, args.repeats, forwards=3)
        if shape == RATIO_SHAPE:
            report.ratios |= ratios(forward | steps)
    part, peaks = _compare(report, OFFICIAL, OFFICIAL_SHAPE, args.repeats)
    report.ratios["speedup_vs_official"] = part["official adder float32"] / part["adder float32"]
    ours, theirs = peaks["adder float32"], peaks["official adder float32"]
    report.ratios["memory_vs_official"] = ours / theirs if ours and theirs else None
    report.finish(args.json)


if __name__ == "__main__":
    main()
