"""EDSR: sizes, switches, the twin, the receptive field, presets."""

import pytest
import torch
from oracle import reach, scrambled

from addersr.errors import CheckpointError
from addersr.layers import AdderConv2d
from addersr.models import EDSR, PRESETS, build, complete


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
    assert reach(model) <= model.radius
    assert reach(model) == model.radius or unit == "conv"  # ReLUs may hide the last pixel of a twin


def test_twin_has_the_same_shape() -> None:
    adder, conv = build("edsr_small_x2"), build("edsr_small_x2", unit="conv")
    shapes = [[tuple(p.shape) for p in model.parameters() if p.dim() == 4] for model in (adder, conv)]
    assert shapes[0] == shapes[1]
    assert any(isinstance(m, AdderConv2d) for m in adder.modules())
    assert not any(isinstance(m, AdderConv2d) for m in conv.modules())


@pytest.mark.parametrize(
    "switch",
    [
        {"batch_norm": False}, {"shortcut": "none"}, {"shortcut": "fixed"}, {"relu": False}, {"power": False},
        {"box_cox": False}, {"upsampler": "conv"}, {"residual_scaling": 1.0}, {"global_skip": "none"},
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
    sizes = ("edsr_tiny", "edsr_small", "edsr_baseline", "edsr_large", "vdsr_tiny", "vdsr")
    assert set(PRESETS) == {f"{size}_x{s}" for size in sizes for s in (2, 3, 4)}
    baseline = build("edsr_baseline_x2")
    assert (baseline.config["blocks"], baseline.config["channels"]) == (16, 64)
    assert (PRESETS["edsr_large_x4"]["blocks"], PRESETS["edsr_large_x4"]["channels"]) == (32, 256)


def test_configurations_of_older_files_are_completed() -> None:
    """As shipped weights have them: with bools for shortcuts."""
    for old, kind in ((True, "learnable"), (False, "none")):
        config = build("edsr_tiny_x2").config
        assert complete("EDSR", {**config, "shortcut": old}) == {**config, "shortcut": kind}
    assert complete("EDSR", {}) == EDSR().config
    with pytest.raises(TypeError, match="wings"):
        complete("EDSR", {"wings": 2})


def test_unknown_names() -> None:
    with pytest.raises(CheckpointError, match=r"no model is called 'edsr_huge_x2'; there are edsr_tiny_x2, "):
        build("edsr_huge_x2")
    with pytest.raises(ValueError, match="scale must be one of 2, 3, 4, got 5"):
        EDSR(scale=5)
    with pytest.raises(ValueError, match="shortcut must be one of learnable, fixed, none, got 'some'"):
        EDSR(shortcut="some")
    with pytest.raises(ValueError, match="unit must be one of adder, conv, got 'shift'"):
        EDSR(unit="shift")
