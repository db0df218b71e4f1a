"""The Triton kernels against the oracles: on a CUDA device, or on the CPU in Triton's interpreter.

The interpreter has to be asked for before triton is imported, so `test_under_the_interpreter` starts a fresh process
that runs those named test_kernels_*. What the interpreter leaves out, the compilation, is tried for an H100, which
needs no GPU.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from addersr.errors import BackendError
from addersr.ops import adder2d, library, reference, unavailable_reason

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
has_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
kernels = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(),
    reason="no CUDA device; test_under_the_interpreter runs it on the CPU",
)
compiler = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
}


@has_triton
@compiler
def test_under_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "kernels"]
    result = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    # none skipped: what has no pass has not run
    assert result.returncode == 0 and " passed" in result.stdout and "skipped" not in result.stdout, (
        result.stdout
    )


def random_case(
    seed: int,
) -> tuple[np.random.Generator, list[int], list[int], tuple[int, int], tuple[int, int]]:
    """Odd sizes, strides beyond the filter, padding beyond it: shapes of input and filters, stride, padding."""
    rng = np.random.default_rng(seed)
    kernel = [int(k) for k in rng.integers(1, 5, 2)]
    padding = [int(rng.integers(0, k + 2)) for k in kernel]
    size = [int(rng.integers(max(1, k - 2 * p), 12)) for k, p in zip(kernel, padding, strict=True)]
    c, o = (int(v) for v in rng.choice([1, 2, 3, 4, 7, 8, 17, 20], 2))
    stride = tuple(int(s) for s in rng.integers(1, 4, 2))
    return rng, [int(rng.integers(1, 4)), c, *size], [o, c, *kernel], stride, tuple(padding)


def normal(
    rng: np.random.Generator, shape: list[int], seed: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Normal values on the device, in a layout that the seed chooses."""
    values = torch.from_numpy(rng.normal(size=shape)).to(DEVICE, dtype)
    return LAYOUTS[list(LAYOUTS)[seed % len(LAYOUTS)]](values)


def double(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().double().cpu().numpy() for t in tensors]


@kernels
@pytest.mark.parametrize("seed", range(10))
def test_kernels_equal_oracle(seed: int) -> None:
    rng, x_shape, weight_shape, stride, padding = random_case(seed)
    x = normal(rng, x_shape, seed).requires_grad_()
    weight = (normal(rng, weight_shape, seed) * rng.choice([0.1, 1, 5])).detach().requires_grad_()
    y = adder2d(x, weight, stride, padding, "triton")
    assert y.is_contiguous(memory_format=torch.channels_last)
    args = (*double(x, weight), stride, padding)
    oracle.assert_rounded(*double(y), oracle.forward(*args), oracle.magnitude(*args), weight[0].numel())
    g = normal(rng, list(y.shape), seed + 1)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # for the gradient to the filters
        y.backward(g)
    assert x.grad is not None and weight.grad is not None
    g_np, x_np, weight_np = double(g, x, weight)
    # a slope of one times max(1, |w|), which is what `grad_input` promises of its rounding
    reach = oracle.grad_input(abs(g_np), np.full_like(x_np, -9), np.zeros_like(weight_np), stride, padding)
    reach *= max(1, abs(weight_np).max())
    expected = oracle.grad_input(g_np, *args)
    oracle.assert_rounded(*double(x.grad), expected, reach, weight.shape[0] * weight[0, 0].numel())
    expected = oracle.grad_weight(g_np, *args)
    spread = oracle.grad_weight(abs(g_np), abs(x_np), -abs(weight_np), stride, padding)
    oracle.assert_rounded(*double(weight.grad), expected, spread, g[:, 0].numel())


@kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kernels_sum_low_precision_in_float32(dtype: torch.dtype) -> None:
    from addersr.ops import triton

    rng, stride, padding = np.random.default_rng(0), (2, 1), (1, 0)
    x, weight = (normal(rng, shape, 1, dtype) for shape in ([2, 17, 7, 9], [5, 17, 3, 3]))
    args = (*double(x, weight), stride, padding)
    y = triton.forward(x, weight, stride, padding)
    g = normal(rng, list(y.shape), 0, dtype)
    grad = triton.grad_input(g, x, weight, stride, padding)
    for result, expected in ((y, oracle.forward(*args)), (grad, oracle.grad_input(*double(g), *args))):
        assert result.dtype == dtype
        # half a unit in the last place of the result, a whole one in the interpreter, which cuts bfloat16 off
        units = 1.01 if INTERPRETED else 0.51
        np.testing.assert_allclose(*double(result), expected, rtol=units * torch.finfo(dtype).eps, atol=1e-4)


@kernels
def test_kernels_of_an_empty_batch() -> None:
    x = torch.zeros(0, 3, 8, 8, device=DEVICE, requires_grad=True)
    weight = torch.randn(5, 3, 3, 3, device=DEVICE, requires_grad=True)
    y = adder2d(x, weight, 2, 1, "triton")
    assert y.shape == (0, 5, 4, 4)
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    assert weight.grad is not None and not weight.grad.any()


@kernels
def test_kernels_let_nan_through() -> None:
    x = torch.randn(1, 17, 6, 6, device=DEVICE)
    x[0, 9, 2, 3] = torch.nan
    y = adder2d(x, torch.randn(19, 17, 3, 3, device=DEVICE), 1, 1, "triton")
    assert y.isnan().any(1).sum() == 9 and y[:, :, 1:4, 2:5].isnan().all()


@kernels
@pytest.mark.parametrize("seed", range(10))
def test_kernels_of_bytes_equal_integer_oracle(seed: int) -> None:
    from addersr.ops import triton

    rng, x_shape, weight_shape, stride, padding = random_case(seed)
    pad_value = int(rng.choice([0, 1, 128, 255]))
    extremes = np.array([0, 127, 128, 255]) if seed % 2 else np.arange(256)
    x, weight = (
        LAYOUTS[list(LAYOUTS)[seed % len(LAYOUTS)]](
            torch.from_numpy(rng.choice(extremes, shape)).to(DEVICE, torch.uint8)
        )
        for shape in (x_shape, weight_shape)
    )
    y = triton.sad2d(x, weight, stride, padding, pad_value)
    expected = oracle.sums_of_differences(x.cpu().numpy(), weight.cpu().numpy(), stride, padding, pad_value)
    assert y.dtype == torch.int32 and y.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(y.cpu().numpy(), expected)


@kernels
def test_kernels_of_bytes_at_any_address() -> None:
    from addersr.ops import triton

    # (1, 16, 1, 1) that passes for channels last, one byte off a word and with strides that are no words
    x = (
        torch.arange(1 + 19 * 4, device=DEVICE)
        .to(torch.uint8)[1:]
        .view(1, 2, 2, 19)
        .permute(0, 3, 1, 2)[:, :16, :1, :1]
    )
    weight = torch.full((3, 16, 1, 1), 255, dtype=torch.uint8, device=DEVICE)
    assert triton.sad2d(x, weight).flatten().tolist() == [int((255 - x.int()).sum())] * 3


# opcheck itself asks for the gradient of tensors that are no leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@kernels
def test_kernels_pass_opcheck() -> None:
    x = torch.randn(2, 3, 7, 6, device=DEVICE, requires_grad=True)
    weight = torch.randn(5, 3, 3, 3, device=DEVICE, requires_grad=True)
    torch.library.opcheck(torch.ops.addersr.adder2d, (x, weight, [2, 1], [1, 0], "triton"))
    x, weight, grad = x.detach(), weight.detach(), torch.randn(2, 5, 4, 4, device=DEVICE)
    for operator in (torch.ops.addersr.adder2d_grad_input, torch.ops.addersr.adder2d_grad_weight):
        torch.library.opcheck(operator, (grad, x, weight, [2, 1], [1, 0], "triton"))


@kernels
def test_kernels_compile_as_one_graph() -> None:
    weight = torch.randn(4, 3, 3, 3, device=DEVICE, requires_grad=True)

    def loss(x: Tensor) -> Tensor:
        return adder2d(x.relu(), weight, 1, 1, "triton").abs().sqrt().sum()

    # inductor cannot run beside the interpreter, nor is it what is tested
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (6, 7):
        x = torch.randn(2, 3, size, size + 1, device=DEVICE)
        (wanted,) = torch.autograd.grad(loss(x), weight)
        (got,) = torch.autograd.grad(compiled(x), weight)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@has_triton
@compiler
@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize(
    ("name", "kind", "packed", "instruction"),
    [
        ("_forward_kernel", "fp32", False, "abs.f32"),
        ("_forward_kernel", "bf16", False, "abs.f32"),
        ("_forward_kernel", "i32", True, "vabsdiff4.u32.u32.u32.add"),
        ("_grad_input_kernel", "fp32", None, "fma.rn.f32"),
    ],
)
def test_compiles_for_hopper(
    name: str, kind: str, packed: bool | None, instruction: str, stages: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """To machine code of an H100 or H200, by the compiler and assembler that triton brings."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton import compile as compile_for
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from addersr.ops import triton

    kernel = getattr(triton, name).fn
    constants = {"inner": 16, "outer": 30, "outer4": 32, "kernel_h": 3, "kernel_w": 3, "stride_h": 1, "stride_w": 2,
                 "pad_h": 1, "pad_w": 1, "block_p": 64, "block_o": 32, "stages": stages}  # fmt: skip
    if packed is not None:
        constants["packed"] = packed
    types = {"weight": "*i32" if packed else "*fp32", "outside": "i32" if packed else "fp32"}
    types |= {tensor: f"*{kind}" for tensor in ("x", "y", "grad", "grad_x")} | dict.fromkeys(
        constants, "constexpr"
    )
    signature = {argument: types.get(argument, "i32") for argument in kernel.arg_names}
    options = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": True}
    built = compile_for(
        ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32), options=options
    )
    assert instruction in built.asm["ptx"] and built.asm["cubin"]


def test_explicit_backend_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x, weight = torch.randn(1, 3, 5, 5), torch.randn(2, 3, 3, 3)
    with monkeypatch.context() as patch:
        patch.setattr(library.importlib.util, "find_spec", lambda name: object())
        with pytest.raises(BackendError, match="'triton' cannot run: the tensors are on cpu"):
            adder2d(x, weight, backend="triton")
        with pytest.raises(BackendError, match=r"'triton' cannot run: the tensors are torch\.float64"):
            adder2d(x.double(), weight.double(), backend="triton")
        patch.setattr(torch.cuda, "is_available", lambda: False)
        assert unavailable_reason("triton") == "there is no CUDA device"
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="'triton' cannot run: triton is not installed"):
        adder2d(x, weight, backend="triton")


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="auto takes triton on a CUDA device, and there is none"
)
def test_auto_on_a_cuda_device() -> None:
    from addersr.ops import triton

    x = torch.randn(1, 3, 5, 5, device="cuda")
    assert library._implementation("auto", x) is triton
    assert library._implementation("auto", x.double()) is reference
