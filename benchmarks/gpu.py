"""Speed of the Triton kernels on one NVIDIA GPU beside their floor, what else computes the same, and the convolution.

    python benchmarks/gpu.py [--json FILE] [--repeats 30]

The floor of a float32 sum of absolute differences (SAD) is two instructions, a subtraction and an addition of the
magnitude, so half of lanes x clock; that of a term of the gradient to the input is two as well. Bytes have no floor
here: the rate of VABSDIFF4 is not documented. The clock is the highest that the device reports, so a throttled run
looks worse and never better. "conv float32" is without TF32; the training steps have it, as torch does by default.
Times are medians over interleaved rounds by CUDA events; memory is the peak of the allocator above the inputs. The
first call tunes and compiles and is not timed. Run nothing else on the device.
"""

import sys
from functools import partial

import measure
import torch
import torch.nn.functional as F
from measure import Call
from ops import inputs, official, step
from torch import Tensor

from addersr.models import build
from addersr.ops import adder2d, unavailable_reason

SHAPES = [(1, 64, 180, 320), (16, 64, 48, 48), (1, 32, 180, 320), (16, 32, 48, 48), (1, 256, 180, 320)]
OFFICIAL_SHAPE = (1, 64, 60, 80)  # what its temporary leaves room for on small devices
BATCH, PATCH = 16, 48


def cdist(x: Tensor, weight: Tensor) -> Tensor:
    """torch.cdist of the unfolded input: (N, C, H, W) -> (N, O, H, W), padding 1."""
    n, _, h, w = x.shape
    distances = torch.cdist(F.unfold(x, 3, padding=1).transpose(1, 2), weight.flatten(1)[None], p=1)
    return -distances.transpose(1, 2).reshape(n, -1, h, w)


def adder(x: Tensor, weight: Tensor) -> Tensor:
    return adder2d(x, weight, 1, 1, backend="triton")


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def convolution_tf32(x: Tensor, weight: Tensor) -> Tensor:
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        return convolution(x, weight)


def seconds(call: Call) -> list[float]:
    """The seconds that one call takes on the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return [start.elapsed_time(end) / 1e3]


def median_seconds(calls: dict[str, Call], repeats: int, title: str) -> dict[str, float]:
    """Median over interleaved rounds, after two of warming up."""
    return measure.medians({name: partial(seconds, call) for name, call in calls.items()}, repeats, title, 2)


def peak_mib(call: Call) -> float:
    """Peak of allocated memory above what is there before."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def grad_input(x: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.addersr.adder2d_grad_input(x, x, weight, [1, 1], [1, 1], "triton")


def sums_of_bytes(x: Tensor, weight: Tensor) -> Call:
    """The forward on bytes, inputs converted beforehand."""
    from addersr.ops import triton

    to_bytes = [(t * 32 + 128).clamp(0, 255).to(torch.uint8) for t in (x, weight)]
    return partial(triton.sad2d, *to_bytes, stride=1, padding=1, pad_value=128)


def training_step(unit: str) -> Call:
    """One step of edsr_baseline_x2 with this unit: forward, L1, backward, Adam, on a fixed batch."""
    torch.manual_seed(0)
    model = build("edsr_baseline_x2", unit=unit).cuda().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    low, high = (torch.rand(BATCH, 3, PATCH * s, PATCH * s, device="cuda") for s in (1, 2))

    def run() -> None:
        optimizer.zero_grad()
        F.l1_loss(model(low), high).backward()
        optimizer.step()

    return run


def float32_floor() -> float:
    """SAD/s at two instructions each on every lane of every multiprocessor, all the time at the highest clock."""
    properties = torch.cuda.get_device_properties()
    lanes = 64 if (properties.major, properties.minor) == (8, 0) else 128  # of a multiprocessor, since Ampere
    return properties.multi_processor_count * lanes * properties.clock_rate * 1e3 / 2


def main() -> None:
    args = measure.parse_arguments("Speed of the Triton kernels on one NVIDIA GPU.", repeats=30)
    if reason := unavailable_reason("triton") or (
        not torch.cuda.is_available() and "there is no CUDA device"
    ):
        sys.exit(f"the Triton kernels cannot run: {reason}")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    floor = float32_floor()
    machine = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "floor_gsad_per_s": floor / 1e9,
    }
    report = measure.Report(machine)
    ratios = report.ratios

    def record(name: str, shape: tuple[int, ...], call: Call, seconds: float, work: float | None) -> None:
        report.add(name, shape, seconds, work, peak_mib(call))

    for shape in SHAPES:
        x, weight = (t.cuda() for t in inputs(shape))
        work = x.numel() * weight[0].numel()
        label = "x".join(map(str, shape))
        with torch.inference_mode():
            calls: dict[str, Call] = {
                "adder float32": partial(adder, x, weight),
                "adder bfloat16": partial(adder, x.bfloat16(), weight.bfloat16()),
                "adder int8": sums_of_bytes(x, weight),
                "adder float32 gradient to input": partial(grad_input, x, weight),
                "cdist float32": partial(cdist, x, weight.contiguous()),
                "conv float32": partial(convolution, x, weight),
                "conv tf32": partial(convolution_tf32, x, weight),
                "conv bfloat16": partial(convolution, x.bfloat16(), weight.bfloat16()),
            }
            times = median_seconds(calls, args.repeats, f"forward {label}")
            for name, call in calls.items():
                record(name, shape, call, times[name], work)
        for name in ("adder float32", "adder float32 gradient to input"):
            ratios[f"{name} of its floor {label}"] = work / times[name] / floor
        for other in ("cdist float32", "conv float32", "conv tf32"):
            ratios[f"adder float32 speed of {other} {label}"] = times[other] / times["adder float32"]
        ratios[f"adder int8 speed of conv bfloat16 {label}"] = times["conv bfloat16"] / times["adder int8"]
        steps = {
            "adder float32 step": step(adder, x, weight),
            "conv float32 step": step(convolution, x, weight),
        }
        times = median_seconds(steps, args.repeats, f"step {label}")
        for name, call in steps.items():
            record(name, shape, call, times[name], 3 * work)
        ratios[f"step_vs_conv {label}"] = times["adder float32 step"] / times["conv float32 step"]

    x, weight = (t.cuda() for t in inputs(OFFICIAL_SHAPE))
    with torch.inference_mode():
        calls = {
            "adder float32": partial(adder, x, weight),
            "official adder float32": partial(official, x, weight.contiguous()),
        }
        times = median_seconds(calls, args.repeats, "official")
        for name, call in calls.items():
            record(name, OFFICIAL_SHAPE, call, times[name], x.numel() * weight[0].numel())
    ratios["speedup_vs_official"] = times["official adder float32"] / times["adder float32"]

    torch.backends.cudnn.allow_tf32 = True
    calls = {f"edsr_baseline_x2 {unit} training step": training_step(unit) for unit in ("adder", "conv")}
    times = median_seconds(calls, args.repeats, "training")
    for name, call in calls.items():
        record(name, (BATCH, 3, PATCH, PATCH), call, times[name], None)
    adder_step, conv_step = times.values()
    ratios["training_step_vs_conv"] = adder_step / conv_step

    report.finish(args.json)


if __name__ == "__main__":
    main()
