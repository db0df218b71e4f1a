"""The adder layer and unit: what they can and cannot express, shapes, switches."""

import pytest
import torch

from addersr.layers import AdderConv2d, AdderUnit


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


def test_autocast() -> None:
    unit, x = AdderUnit(4, 4), torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        result = unit(torch.nn.functional.conv2d(x, torch.randn(4, 4, 1, 1)))
    assert result.shape == x.shape and result.isfinite().all()


def test_shortcut_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="multiple of in_channels 4, got 6"):
        AdderUnit(4, 6)
    assert AdderUnit(4, 6, shortcut=False)(torch.randn(1, 4, 3, 3)).shape == (1, 6, 3, 3)
