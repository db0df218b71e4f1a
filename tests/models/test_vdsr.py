"""VDSR: sizes, where training begins, switches, the twin, the receptive field, presets."""

import pytest
import torch
from oracle import reach, scrambled

from addersr.images.resize import imresize
from addersr.layers import AdderConv2d
from addersr.models import VDSR, build, complete


@pytest.mark.parametrize("unit", ["adder", "conv"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarges_any_size(scale: int, unit: str) -> None:
    model = build(f"vdsr_tiny_x{scale}", unit=unit).eval()
    for height, width in ((1, 1), (1, 7), (5, 4)):
        assert model(torch.rand(2, 3, height, width)).shape == (2, 3, scale * height, scale * width)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_training_begins_at_matlabs_bicubic_picture(scale: int) -> None:
    """But for what the cubic kernel sees of the border."""
    x = torch.rand(1, 3, 9, 8, dtype=torch.double)
    result = build(f"vdsr_tiny_x{scale}").double()(x)
    bicubic = torch.from_numpy(imresize(x[0].permute(1, 2, 0).numpy(), scale)).permute(2, 0, 1)[None]
    inner = slice(2 * scale, -2 * scale)
    torch.testing.assert_close(result[..., inner, inner], bicubic[..., inner, inner], rtol=0, atol=1e-12)
    torch.testing.assert_close(result, bicubic, rtol=0, atol=0.05)


@pytest.mark.parametrize("unit", ["adder", "conv"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("box_cox", [True, False])
@pytest.mark.parametrize("layers", [3, 4, 5])
def test_radius_is_the_receptive_field(scale: int, unit: str, box_cox: bool, layers: int) -> None:
    model = scrambled(VDSR(scale, layers=layers, channels=4, unit=unit, box_cox=box_cox))
    assert reach(model) <= model.radius
    assert reach(model) == model.radius or unit == "conv"  # ReLUs may hide the last pixel of a twin


def test_first_and_last_layers_are_convolutions_and_the_twin_has_the_same_shape() -> None:
    """20 layers of 64 channels, 0.67 M parameters: the paper's 0.665 M, for RGB and the Box-Cox stage."""
    adder, conv = build("vdsr_x2"), build("vdsr_x2", unit="conv")
    shapes = [[tuple(p.shape) for p in model.parameters() if p.dim() == 4] for model in (adder, conv)]
    assert shapes[0] == shapes[1] == [(64, 6, 3, 3), *[(64, 64, 3, 3)] * 18, (3, 64, 3, 3)]
    assert sum(isinstance(m, AdderConv2d) for m in adder.modules()) == 18
    assert not any(isinstance(m, AdderConv2d) for m in conv.modules())


@pytest.mark.parametrize(
    "switch",
    [
        {"batch_norm": False}, {"shortcut": "none"}, {"shortcut": "fixed"}, {"relu": False}, {"power": False},
        {"box_cox": False}, {"unit": "conv"},
    ],
)  # fmt: skip
def test_each_piece_can_be_switched_off(switch: dict[str, object]) -> None:
    model = build("vdsr_tiny_x2", **switch)
    assert model.config == build("vdsr_tiny_x2").config | switch == complete("VDSR", model.config)
    assert model.state_dict().keys() != build("vdsr_tiny_x2").state_dict().keys() or switch.keys() & {
        "relu",
        "shortcut",
    }
    rebuilt = VDSR(**model.config)
    rebuilt.load_state_dict(scrambled(model).state_dict())
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(rebuilt.eval()(x), model.float()(x), rtol=1e-5, atol=1e-5)


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least 3 layers and 1 channel, got layers 2, channels 64"):
        VDSR(layers=2)
    with pytest.raises(ValueError, match="scale must be one of 2, 3, 4, got 5"):
        VDSR(scale=5)
    with pytest.raises(ValueError, match="unit must be one of adder, conv, got 'shift'"):
        VDSR(unit="shift")
