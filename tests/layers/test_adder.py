"""The adder layer and unit: what they can and cannot express, shapes, switches."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from addersr.layers import AdderConv2d, AdderUnit, adder
from addersr.layers.adder import Shortcut
from addersr.ops import unavailable_reason, unit

needs_kernels = pytest.mark.skipif(
    unavailable_reason("native") is not None, reason="no compiled kernels to fuse a unit with"
)


def test_no_adder_layer_answers_all_constant_pictures_alike() -> None:
    """AdderSR, section 3.2: whatever the filter, the answer to a constant picture depends on its level."""
    for seed in range(20):
        torch.manual_seed(seed)
        layer = AdderConv2d(1, 1, 3)
        answers = torch.stack([layer(torch.full((1, 1, 3, 3), level)) for level in torch.linspace(-9, 9, 37)])
        assert answers.max() - answers.min() > 1


def test_no_adder_layer_is_the_identity() -> None:
    """A result is never positive, and moving a pixel by d moves it by at most d: y = x needs both to fail."""
    layer = AdderConv2d(1, 1, 3, padding=1)
    assert (layer(torch.randn(1, 1, 9, 9)) <= 0).all()


def test_unit_is_the_identity_when_the_norm_is_silent() -> None:
    """What the self-shortcut is for: with the normalised adder at 0 and both learnables at 1, y = ReLU(x)."""
    unit = AdderUnit(5, 5).eval()
    torch.nn.init.zeros_(unit.norm.weight)
    x = torch.randn(2, 5, 6, 7)
    torch.testing.assert_close(unit(x), x.relu(), rtol=1e-6, atol=1e-6)


def test_shortcut_of_an_upsampler_is_nearest_neighbour() -> None:
    unit = AdderUnit(3, 12, relu=False, power=False).eval()
    torch.nn.init.zeros_(unit.norm.weight)
    x = torch.randn(1, 3, 4, 5)
    enlarged = torch.nn.functional.pixel_shuffle(unit(x), 2)
    assert torch.equal(enlarged, torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize("switch", ["batch_norm", "shortcut", "relu", "power"])
def test_each_piece_can_be_switched_off(switch: str) -> None:
    torch.manual_seed(0)
    whole, reduced = AdderUnit(4, 4), AdderUnit(4, 4, **{switch: False})
    reduced.load_state_dict(whole.state_dict(), strict=False)
    with torch.no_grad():
        for unit in (whole, reduced):
            if hasattr(unit.power, "alpha"):
                unit.power.alpha.fill_(1.3)
    x = torch.randn(2, 4, 6, 6)
    assert not torch.allclose(whole(x), reduced(x))
    assert len(list(reduced.parameters())) <= len(list(whole.parameters()))


def test_a_fixed_shortcut_adds_what_a_learnable_one_starts_with_and_learns_nothing() -> None:
    torch.manual_seed(0)
    learnable, fixed = AdderUnit(4, 8), AdderUnit(4, 8, shortcut="fixed")
    fixed.load_state_dict(learnable.state_dict())
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(learnable(x), fixed(x))
    assert {name for name, _ in learnable.named_parameters()} - {
        name for name, _ in fixed.named_parameters()
    } == {"gain"}


def test_bools_of_older_files_are_shortcuts() -> None:
    for shortcut, kind in ((True, "learnable"), (False, "none")):
        assert str(AdderUnit(4, 4, shortcut=shortcut).state_dict().keys()) == str(
            AdderUnit(4, 4, shortcut=kind).state_dict().keys()
        )
    for wrong in ("some", 1, ["fixed"]):
        with pytest.raises(ValueError, match="shortcut must be one of learnable, fixed, none, got"):
            AdderUnit(4, 4, shortcut=wrong)


def test_autocast() -> None:
    unit, x = AdderUnit(4, 4), torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        result = unit(torch.nn.functional.conv2d(x, torch.randn(4, 4, 1, 1)))
    assert result.shape == x.shape and result.isfinite().all()


def test_shortcut_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="multiple of in_channels 4, got 6"):
        AdderUnit(4, 6)
    assert AdderUnit(4, 6, shortcut=False)(torch.randn(1, 4, 3, 3)).shape == (1, 6, 3, 3)


def trained(layer: nn.Module, steps: int = 3) -> dict[str, Tensor]:
    """The last result, its gradients and all that the layer remembers after some steps on the same pictures."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 9, 7, generator=generator).requires_grad_()
    for _ in range(steps):
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        y.backward(torch.randn(y.shape, generator=generator))
    grads = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **grads, **dict(layer.named_buffers())}


def assert_alike(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name, value in wanted.items():
        atol = 1e-5 * value.abs().max().item()
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def quadratic(**switches: bool | Shortcut) -> AdderUnit:
    """A unit whose power activation is nearly flat at 0: rounding that moves a value across moves no gradient."""
    torch.manual_seed(0)
    layer = AdderUnit(4, 16, **switches)
    nn.init.constant_(layer.power.alpha, 2.0)
    nn.init.constant_(layer.norm.bias, 0.5)
    return layer


@pytest.mark.parametrize("kernel_size", [2, 4])
def test_a_unit_of_an_even_kernel_would_be_of_another_size(kernel_size):
    with pytest.raises(ValueError, match=f"kernel_size must be odd, got {kernel_size}"):
        AdderUnit(4, 4, kernel_size)


@needs_kernels
@pytest.mark.parametrize("shortcut", ["learnable", "fixed", "none"])
def test_fused_training_equals_its_pieces(monkeypatch: pytest.MonkeyPatch, shortcut: Shortcut) -> None:
    """Results, gradients, running statistics, the number of batches. (`tests/ops/test_unit.py` bounds the error.)"""
    fused = trained(quadratic(shortcut=shortcut))
    monkeypatch.setattr(adder, "unavailable_reason", lambda backend: "told so")
    assert_alike(fused, trained(quadratic(shortcut=shortcut)))


@needs_kernels
def test_fused_training_compiles_as_one_graph() -> None:
    compiled = quadratic()
    compiled.compile(fullgraph=True, dynamic=True)
    assert_alike(trained(compiled), trained(quadratic()))


class OtherNorm(nn.BatchNorm2d):
    """Stands for SyncBatchNorm, which needs a GPU."""


def without_memory(layer: AdderUnit) -> None:
    layer.norm = nn.BatchNorm2d(16, track_running_stats=False)


def with_other_norm(layer: AdderUnit) -> None:
    layer.norm = OtherNorm(16)


def with_cumulative_average(layer: AdderUnit) -> None:
    layer.norm = nn.BatchNorm2d(16, momentum=None)


def with_frozen_norm(layer: AdderUnit) -> None:
    layer.norm.eval()


@needs_kernels
@pytest.mark.parametrize(
    ("change", "calls"),
    [
        (AdderUnit.train, 1),
        (AdderUnit.eval, 0),
        (AdderUnit.double, 0),
        (with_frozen_norm, 0),
        (with_other_norm, 0),
        (without_memory, 0),
        (with_cumulative_average, 0),
    ],
)
def test_what_is_fused(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[AdderUnit], object], calls: int
) -> None:
    called = []
    fused = unit.unit
    monkeypatch.setattr(unit, "unit", lambda *args: called.append(1) or fused(*args))
    layer = quadratic()
    change(layer)
    layer(torch.randn(2, 4, 5, 5, dtype=layer.adder.weight.dtype))
    assert len(called) == calls


def test_a_single_value_has_no_variance() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        AdderUnit(4, 4)(torch.randn(1, 4, 1, 1))
