"""`adder2d` against the float64 oracle, on random shapes, strides, paddings, layouts; contract and registration."""

import shutil
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from addersr.errors import BackendError
from addersr.ops import adder2d, cpu, reference

LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "sliced": lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
}


def random_case(seed: int) -> tuple[Tensor, Tensor, tuple[int, int], tuple[int, int]]:
    """Inputs of random odd sizes: every block width, tail and border of the kernels comes up over some seeds."""
    rng = np.random.default_rng(seed)
    kernel = rng.integers(1, 6, 2)
    padding = tuple(int(rng.integers(0, k + 2)) for k in kernel)
    stride = tuple(int(s) for s in rng.integers(1, 4, 2))
    size = [int(rng.integers(max(1, k - 2 * p), 24)) for k, p in zip(kernel, padding, strict=True)]
    channels = [
        int(c) for c in rng.choice([1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 80, 130], 2)
    ]
    x = rng.normal(size=(int(rng.integers(1, 4)), channels[0], *size))
    weight = rng.normal(size=(channels[1], channels[0], *kernel)) * rng.choice([0.1, 1, 5])
    return torch.from_numpy(x).float(), torch.from_numpy(weight).float(), stride, padding


def assert_within(actual: Tensor, expected: np.ndarray, scale: np.ndarray, terms: int) -> None:
    oracle.assert_rounded(actual.detach().double().numpy(), expected, scale, terms)


@pytest.mark.parametrize("seed", range(40))
def test_forward_equals_oracle(seed: int, backend: str) -> None:
    x, weight, stride, padding = random_case(seed)
    args = (x.double().numpy(), weight.double().numpy(), stride, padding)
    layout = LAYOUTS[list(LAYOUTS)[seed % len(LAYOUTS)]]
    y = adder2d(layout(x), layout(weight), stride, padding, backend)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert_within(y, oracle.forward(*args), oracle.magnitude(*args), weight[0].numel())


@pytest.mark.parametrize("seed", range(40))
def test_gradients_equal_oracle(seed: int, backend: str) -> None:
    x, weight, stride, padding = random_case(seed)
    layout = LAYOUTS[list(LAYOUTS)[seed % len(LAYOUTS)]]
    x_leaf, weight_leaf = (layout(t.clone()).requires_grad_() for t in (x, weight))
    y = adder2d(x_leaf, weight_leaf, stride, padding, backend)
    g = layout(torch.from_numpy(np.random.default_rng(seed).normal(size=y.shape)).float())
    y.backward(g)
    args = (g.double().numpy(), x.double().numpy(), weight.double().numpy(), stride, padding)
    ones = (abs(args[0]), *args[1:])
    assert x_leaf.grad is not None and weight_leaf.grad is not None
    reach = oracle.grad_input(ones[0], np.zeros_like(args[1]) - 9, np.zeros_like(args[2]), stride, padding)
    assert_within(x_leaf.grad, oracle.grad_input(*args), reach, weight.shape[0] * weight[0, 0].numel())
    spread = oracle.grad_weight(ones[0], abs(ones[1]), -abs(ones[2]), stride, padding)
    assert_within(weight_leaf.grad, oracle.grad_weight(*args), spread, g[:, 0].numel())


@pytest.mark.parametrize("threads", [1, 3])
def test_result_does_not_depend_on_threads(threads: int, backend: str) -> None:
    x, weight, *_ = torch.randn(2, 5, 40, 31), torch.randn(18, 5, 3, 3)
    expected = adder2d(x, weight, 1, 1, backend)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(adder2d(x, weight, 1, 1, backend), expected)
    finally:
        torch.set_num_threads(before)


def test_rounding_never_gives_a_positive_result(backend: str) -> None:
    x = torch.randn(1, 64, 3, 3)
    assert (adder2d(x.repeat(1, 1, 4, 4), x + 1e-7, 1, 0, backend) <= 0).all()


def test_padding_takes_part(backend: str) -> None:
    y = adder2d(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 3, 3), 2.0), 1, 1, backend)
    assert y.item() == -18


def test_empty_batch(backend: str) -> None:
    x = torch.zeros(0, 3, 8, 8, requires_grad=True)
    weight = torch.randn(5, 3, 3, 3, requires_grad=True)
    y = adder2d(x, weight, 2, 1, backend)
    assert y.shape == (0, 5, 4, 4)
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    assert weight.grad is not None and not weight.grad.any()


def test_nan_comes_through(backend: str) -> None:
    x = torch.randn(1, 17, 6, 6)
    x[0, 9, 2, 3] = torch.nan
    y = adder2d(x, torch.randn(19, 17, 3, 3), 1, 1, backend)
    assert y.isnan().any(1).sum() == 9 and y[:, :, 1:4, 2:5].isnan().all()


def test_gradients_of_the_exact_sign_twin() -> None:
    """The surrogates share their indexing with this twin, whose derivative gradcheck can check."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 5, dtype=torch.double, generator=generator, requires_grad=True)
    weight = torch.randn(4, 3, 3, 2, dtype=torch.double, generator=generator, requires_grad=True)
    for stride, padding in (([1, 1], [0, 0]), ([2, 1], [1, 2]), ([1, 3], [3, 0])):
        assert torch.autograd.gradcheck(
            lambda x, w, s=stride, p=padding: reference.ExactSign.apply(x, w, s, p), (x, weight)
        )


def test_second_derivative_is_refused() -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    y = adder2d(x, torch.randn(2, 2, 3, 3))
    (grad,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        grad.sum().backward()


class LargestResult(TorchDispatchMode):
    """Records the elements of the largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.untyped_storage().nbytes() // result.itemsize)
        return result


def test_reference_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "CHUNK_ELEMENTS", 20_000)
    x, weight, g = torch.randn(2, 8, 40, 40), torch.randn(16, 8, 3, 3), torch.randn(2, 16, 40, 40)
    with LargestResult() as forward:
        reference.forward(x, weight, [1, 1], [1, 1])
    with LargestResult() as backward:
        reference.grad_input(g, x, weight, [1, 1], [1, 1])
        reference.grad_weight(g, x, weight, [1, 1], [1, 1])
    whole = g.numel()  # the result itself; a Cout x K x N temporary would have 72 times as many
    assert max(forward.largest, backward.largest) <= whole


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_auto_takes_what_native_does_not(dtype: torch.dtype) -> None:
    x, weight = torch.randn(1, 3, 5, 5).to(dtype), torch.randn(2, 3, 3, 3).to(dtype)
    assert torch.equal(adder2d(x, weight), adder2d(x, weight, backend="reference"))
    with pytest.raises(BackendError, match=rf"'native' cannot run.*{dtype}"):
        adder2d(x, weight, backend="native")


def test_without_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_find", lambda: None)
    cpu.load.cache_clear()
    try:
        x, weight = torch.randn(1, 3, 5, 5), torch.randn(2, 3, 3, 3)
        assert torch.equal(adder2d(x, weight), adder2d(x, weight, backend="reference"))
        with pytest.raises(BackendError, match=r"no compiled kernels.*compiler"):
            adder2d(x, weight, backend="native")
    finally:
        cpu.load.cache_clear()


@pytest.mark.skipif(cpu.unavailable_reason() is not None, reason="no compiled kernels")
def test_a_source_tree_takes_the_kernels_of_the_same_code_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`python app.py` after `pip install .`: Python takes the package beside the script, which has no kernels."""
    path, ops = cpu._find(), tmp_path / "addersr" / "ops"
    shutil.copytree(Path(cpu.__file__).parent, ops, ignore=shutil.ignore_patterns("_kernels*", "__pycache__"))
    kernels = shutil.copy(path, ops)
    monkeypatch.setattr(cpu.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(cpu.sys, "path", ["", str(tmp_path)])
    assert cpu._find() == str(kernels)
    (ops / "int8.py").write_text("another version's", encoding="utf-8")
    assert cpu._find() is None


# opcheck itself asks for the gradient of tensors that are no leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(layout: str, requires_grad: bool, backend: str) -> None:
    x = LAYOUTS[layout](torch.randn(2, 3, 7, 6)).requires_grad_(requires_grad)
    weight = torch.randn(5, 3, 3, 3, requires_grad=requires_grad)
    torch.library.opcheck(torch.ops.addersr.adder2d, (x, weight, [2, 1], [1, 0], backend))
    x, weight = x.detach(), weight.detach()
    grad = torch.randn(2, 5, 4, 4)
    for operator in (torch.ops.addersr.adder2d_grad_input, torch.ops.addersr.adder2d_grad_weight):
        torch.library.opcheck(operator, (grad, x, weight, [2, 1], [1, 0], backend))


@pytest.mark.parametrize(
    ("x", "weight", "stride", "padding", "message"),
    [
        ((3, 8, 8), (4, 3, 3, 3), 1, 0, r"x must be \(N, C, H, W\), got \(3, 8, 8\)"),
        ((1, 3, 8, 8), (4, 3, 3), 1, 0, r"weight must be \(O, C, Kh, Kw\), got \(4, 3, 3\)"),
        ((1, 2, 8, 8), (4, 3, 3, 3), 1, 0, "x has 2 channels.*takes 3"),
        ((1, 3, 2, 8), (4, 3, 3, 3), 1, 0, r"does not fit into \(2, 8\)"),
        ((1, 3, 8, 8), (0, 3, 3, 3), 1, 0, "weight must not be empty"),
        ((1, 3, 0, 8), (4, 3, 3, 3), 1, 3, "x may be empty in N only"),
        ((1, 3, 8, 8), (4, 3, 3, 3), 0, 0, "stride must be an integer >= 1 .*got 0"),
        ((1, 3, 8, 8), (4, 3, 3, 3), 2**64, 0, "stride must be an integer >= 1 .*got 18446744073709551616"),
        (
            (1, 3, 8, 8),
            (4, 3, 3, 3),
            1,
            2**63 - 1,
            "padding must be an integer >= 0 .*got 9223372036854775807",
        ),
        ((1, 3, 8, 8), (4, 3, 3, 3), 1, (1, -1), r"padding must be .*got \(1, -1\)"),
        ((1, 3, 8, 8), (4, 3, 3, 3), (1, 1, 1), 0, "stride must be"),
    ],
)
def test_shapes_that_do_not_fit(x, weight, stride, padding, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        adder2d(torch.zeros(x), torch.zeros(weight), stride, padding)


def test_types_that_do_not_fit() -> None:
    x, weight = torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3)
    with pytest.raises(ValueError, match="share a floating point type"):
        adder2d(x, weight.double())
    with pytest.raises(ValueError, match="share a floating point type"):
        adder2d(x.int(), weight.int())
    with pytest.raises(ValueError, match="on one device"):
        adder2d(x, weight.to("meta"))
    with pytest.raises(
        ValueError, match="backend must be one of auto, reference, native, native16, triton, got 'gpu'"
    ):
        adder2d(x, weight, backend="gpu")
