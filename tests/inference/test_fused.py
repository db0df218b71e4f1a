"""`FusedEDSR` against the network it was made from, in float32 and in bytes."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from addersr.inference.fused import FusedEDSR, fusable
from addersr.layers import PowerActivation
from addersr.layers.quantized import QuantizedUnit
from addersr.models import EDSR, build
from addersr.models.quantized import adder_units
from addersr.ops import unavailable_reason
from addersr.ops.fused import ByteUnit

pytestmark = pytest.mark.skipif(unavailable_reason("native") is not None, reason="no compiled kernels")

Make = Callable[..., EDSR]
SIZES = [(1, 1, 1), (1, 1, 9), (2, 7, 5), (1, 17, 43)]
"""N, H, W"""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def make(busy: Make) -> Make:
    """make(name, ...) is a network in eval mode, none of whose parameters is as it was at the start."""

    def lively(name: str, **overrides: object) -> EDSR:
        with torch.inference_mode(False):
            model = busy(name, **overrides)
        generator = torch.Generator().manual_seed(0)

        def between(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(shape, generator=generator)

        for unit in adder_units(model).values():
            if isinstance(unit.norm, nn.BatchNorm2d):
                unit.norm.weight.copy_(between(-1.5, 1.5, len(unit.norm.weight)))
                unit.norm.bias.copy_(between(-0.5, 1, len(unit.norm.bias)))
            if unit.gain is not None:
                unit.gain.copy_(between(0.5, 1.2))
            if isinstance(unit.power, PowerActivation):
                # Without BatchNorm nothing but a small power keeps values within the maps' float16.
                low, high = (0.7, 1.3) if isinstance(unit.norm, nn.BatchNorm2d) else (0.5, 0.7)
                unit.power.alpha.copy_(between(low, high))
        model.train()(torch.rand(2, 3, 24, 24, generator=generator))  # statistics to match, lest values grow
        return model.eval()

    return lively


def picture(n: int, h: int, w: int) -> Tensor:
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(h * w))


def quantised(model: EDSR) -> EDSR:
    """Over the range of each unit's filters; whatever the features are, what lies beyond it is exact."""
    made = copy.deepcopy(model)
    for name, unit in adder_units(model).items():
        low, high = unit.adder.weight.aminmax()
        made.set_submodule(name, QuantizedUnit.of(unit, low.item(), high.item()))
    return made


def size(x: Tensor) -> Tensor:
    """Root of the mean square."""
    return x.square().mean().sqrt()


def assert_as_near(fused: Tensor, eager: Tensor, exact: Tensor) -> None:
    """The error of the fused network is of the size of the eager one's, both against float64."""
    allowed = 4 * (size(eager - exact) + torch.finfo(torch.float32).eps * size(exact))
    error = size(fused - exact)
    assert fused.shape == exact.shape and fused.dtype == torch.float32
    assert error <= allowed, f"error {error:.3g}, {error / allowed:.3g} times what is allowed"


NETWORKS: dict[str, tuple[str, dict[str, object]]] = {
    "x2": ("edsr_tiny_x2", {}),
    "x3": ("edsr_tiny_x3", {}),
    "x4": ("edsr_tiny_x4", {}),
    "small": ("edsr_small_x2", {"channels": 16}),
    "baseline": ("edsr_baseline_x3", {"channels": 8}),
    "large": ("edsr_large_x4", {"channels": 4}),
    "10 channels": ("edsr_tiny_x2", {"channels": 10}),
    "33 channels": ("edsr_tiny_x3", {"channels": 33, "blocks": 1}),
    "one channel": ("edsr_tiny_x4", {"channels": 1, "blocks": 1}),
    "no shortcut": ("edsr_tiny_x2", {"shortcut": False}),
    "no relu": ("edsr_tiny_x2", {"relu": False}),
    "no power": ("edsr_tiny_x3", {"power": False}),
    "no Box-Cox": ("edsr_tiny_x2", {"box_cox": False}),
    "no BatchNorm": ("edsr_tiny_x2", {"batch_norm": False, "relu": False}),  # with ReLU it would be silent
    "convolutional upsampler": ("edsr_tiny_x2", {"upsampler": "conv"}),
    "two convolutional upsamplers": ("edsr_tiny_x4", {"upsampler": "conv", "channels": 10}),
    "no global skip": ("edsr_tiny_x3", {"global_skip": "none"}),
    "whole residues": ("edsr_tiny_x2", {"residual_scaling": 1.0}),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_equals_the_network(network: str, make: Make) -> None:
    name, overrides = NETWORKS[network]
    model = make(name, **overrides)
    fused, exact = FusedEDSR(model), copy.deepcopy(model).double()
    assert (fused.scale, fused.radius) == (model.scale, model.radius)
    for shape in SIZES:
        x = picture(*shape)
        assert_as_near(fused(x), model(x), exact(x.double()))


@pytest.mark.parametrize("network", NETWORKS)
def test_equals_the_quantised_network(network: str, make: Make) -> None:
    """But for the rounding of its maps, and bytes that this moves by one: less than quantising moved the result."""
    name, overrides = NETWORKS[network]
    model = make(name, **overrides)
    eager = quantised(model)
    fused = FusedEDSR(eager)
    for shape in SIZES:
        x = picture(*shape)
        got, wanted = fused(x), eager(x)
        allowed = size(model(x) - wanted) + torch.finfo(ByteUnit.dtype).eps * size(wanted)
        error = size(got - wanted)
        assert got.shape == wanted.shape and got.dtype == torch.float32
        assert error <= allowed, f"error {error:.3g}, {error / allowed:.3g} times what is allowed"


@pytest.fixture(params=["float32", "bytes"])
def model(request: pytest.FixtureRequest, make: Make) -> EDSR:
    return make("edsr_tiny_x4") if request.param == "float32" else quantised(make("edsr_tiny_x4"))


def test_buffers_hold_nothing_of_the_last_picture(model: EDSR) -> None:
    """Larger, smaller and other pictures in turn, and a result that was given away is left alone."""
    fused = FusedEDSR(model)
    shapes = [(1, 9, 12), (2, 4, 5), (1, 12, 9), (1, 1, 2), (1, 20, 30), (1, 9, 12)]
    results = [fused(picture(*shape)) for shape in shapes]
    for shape, result in zip(shapes, results, strict=True):
        assert torch.equal(result, FusedEDSR(model)(picture(*shape)))


class Rooms(TorchDispatchMode):
    """Counts the tensors that are made with nothing in them: buffers."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten.empty.memory_format
        return func(*args, **(kwargs or {}))


def test_a_second_picture_needs_no_buffers(model: EDSR) -> None:
    fused = FusedEDSR(model)
    with Rooms() as first:
        fused(picture(1, 16, 24))
    with Rooms() as others:
        fused(picture(1, 16, 24))
        fused(picture(1, 7, 24))
    assert first.count > 0 and others.count == 0


def test_picture_in_any_memory_layout(model: EDSR) -> None:
    fused, x = FusedEDSR(model), picture(2, 6, 11)
    for other in (x.contiguous(memory_format=torch.channels_last), x.repeat_interleave(2, dim=3)[..., ::2]):
        assert torch.equal(fused(other), fused(x))


def test_result_does_not_depend_on_threads(model: EDSR) -> None:
    fused, before, results = FusedEDSR(model), torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results.append(fused(picture(1, 37, 41)))
        finally:
            torch.set_num_threads(before)
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)  # the convolutions are torch's


def test_what_cannot_be_fused(make: Make) -> None:
    for model in (build("edsr_tiny_x2", unit="conv"), make("edsr_tiny_x2").double()):
        assert not fusable(model)
        with pytest.raises(ValueError, match="only an EDSR of adder units"):
            FusedEDSR(model)
    assert fusable(make("edsr_tiny_x2")) and not fusable(nn.Conv2d(3, 3, 3))
