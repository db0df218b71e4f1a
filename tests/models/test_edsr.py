"""EDSR: sizes, switches, the twin, the receptive field, presets."""

import pytest
import torch

from addersr.errors import CheckpointError
from addersr.layers import AdderConv2d
from addersr.models import EDSR, PRESETS, build


def scrambled(model: EDSR) -> EDSR:
    """`model` in eval mode with random parameters and the statistics they lead to, so that no path is silent."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
        for _ in range(30):  # moves BatchNorm's statistics most of the way
            model.train()(torch.rand(2, 3, 12, 12, generator=generator))
    return model.double().eval()


@pytest.mark.parametrize("unit", ["adder", "conv"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarges_any_size(scale: int, unit: str) -> None:
    model = build(f"edsr_tiny_x{scale}", unit=unit).eval()
    for height, width in ((1, 1), (1, 7), (5, 4), (16, 23)):
        assert model(torch.rand(2, 3, height, width)).shape == (2, 3, scale * height, scale * width)


def test_training_begins_at_the_bilinear_picture() -> None:
    x = torch.rand(1, 3, 6, 5)
    bilinear = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    assert torch.equal(build("edsr_tiny_x2")(x), bilinear)


@pytest.mark.parametrize("unit", ["adder", "conv"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("box_cox", [True, False])
def test_radius_is_the_receptive_field(scale: int, unit: str, box_cox: bool) -> None:
    """A change of one pixel is seen `radius` LR pixels away at most, and as far as that."""
    model = scrambled(EDSR(scale, blocks=1, channels=4, unit=unit, box_cox=box_cox))
    side = 2 * model.radius + 5
    x = torch.rand(1, 3, side, side, dtype=torch.double)
    changed = x.clone()
    middle = side // 2
    changed[..., middle, middle] = 1 - changed[..., middle, middle]
    with torch.inference_mode():
        seen = (model(x) != model(changed)).any(1)[0].nonzero() // scale
    reach = (seen - middle).abs().max().item()
    assert reach <= model.radius
    assert reach == model.radius or unit == "conv"  # ReLUs may hide the last pixel of a twin


def test_twin_has_the_same_shape() -> None:
    adder, conv = build("edsr_small_x2"), build("edsr_small_x2", unit="conv")
    shapes = [[tuple(p.shape) for p in model.parameters() if p.dim() == 4] for model in (adder, conv)]
    assert shapes[0] == shapes[1]
    assert any(isinstance(m, AdderConv2d) for m in adder.modules())
    assert not any(isinstance(m, AdderConv2d) for m in conv.modules())


@pytest.mark.parametrize(
    "switch",
    [
        {"batch_norm": False}, {"shortcut": False}, {"relu": False}, {"power": False}, {"box_cox": False},
        {"upsampler": "conv"},
        {"residual_scaling": 1.0}, {"global_skip": "none"},
    ],
)  # fmt: skip
def test_each_piece_can_be_switched_off(switch: dict[str, object]) -> None:
    model = build("edsr_tiny_x2", **switch)
    assert model.config == build("edsr_tiny_x2").config | switch
    assert str(model) != str(build("edsr_tiny_x2")) or switch.keys() & {
        "shortcut",
        "residual_scaling",
        "global_skip",
    }
    rebuilt = EDSR(**model.config)
    rebuilt.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(rebuilt.eval()(x), model.eval()(x))
    loss = model.train()(x).sum()
    loss.backward()


def test_channels_last_gives_the_same() -> None:
    model = scrambled(build("edsr_tiny_x3")).float()
    x = torch.rand(1, 3, 9, 8)
    last = model(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, model(x), rtol=1e-4, atol=1e-4)


def test_presets() -> None:
    assert set(PRESETS) == {
        f"edsr_{size}_x{s}" for size in ("tiny", "small", "baseline", "large") for s in (2, 3, 4)
    }
    baseline = build("edsr_baseline_x2")
    assert (baseline.config["blocks"], baseline.config["channels"]) == (16, 64)
    assert (PRESETS["edsr_large_x4"]["blocks"], PRESETS["edsr_large_x4"]["channels"]) == (32, 256)


def test_unknown_names() -> None:
    with pytest.raises(CheckpointError, match=r"no model is called 'edsr_huge_x2'; there are edsr_tiny_x2, "):
        build("edsr_huge_x2")
    with pytest.raises(ValueError, match="scale must be one of 2, 3, 4, got 5"):
        EDSR(scale=5)
    with pytest.raises(ValueError, match="unit must be one of adder, conv, got 'shift'"):
        EDSR(unit="shift")
