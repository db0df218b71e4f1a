"""Weights to start from."""

import pytest
import torch

from addersr import checkpoint
from addersr.errors import CheckpointError
from addersr.models import presets
from addersr.training.system import SuperResolution


@pytest.fixture
def trained(tmp_path):
    return saved(tmp_path, "edsr_tiny_x2")


def started(*arguments, init_from):
    """As the command line starts a fresh run."""
    system = SuperResolution(*arguments, init_from=str(init_from))
    system.read_weights(training=True)
    return system.model.state_dict()


def saved(folder, preset):
    """Weights of a network in which nothing is as a fresh one has it."""
    model = presets.build(preset)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) + 2)
    path = folder / "x2.safetensors"
    checkpoint.save(path, model, {})
    return path


def test_the_same_network_takes_all(trained, said):
    start = started("edsr_tiny_x2", init_from=trained)
    for name, value in checkpoint.load(trained).model.state_dict().items():
        assert torch.equal(start[name], value)
    assert f"Starting from {trained}, x2: all weights are taken" in said.text


def test_a_vdsr_of_another_scale_takes_all_too(tmp_path, said):
    """It enlarges by interpolation."""
    path = saved(tmp_path, "vdsr_tiny_x2")
    start = started("vdsr_tiny_x3", init_from=path)
    for name, value in checkpoint.load(path).model.state_dict().items():
        assert torch.equal(start[name], value)
    assert "x2: all weights are taken" in said.text


@pytest.mark.parametrize("scale", [3, 4])
def test_another_scale_takes_all_but_what_belongs_to_the_scale(trained, said, scale):
    torch.manual_seed(1)
    fresh = SuperResolution(f"edsr_tiny_x{scale}").model.state_dict()
    torch.manual_seed(1)
    start = started(f"edsr_tiny_x{scale}", init_from=trained)
    weights = checkpoint.load(trained).model.state_dict()
    for name, value in start.items():
        anew = name.startswith(("upsampler.", "tail."))
        assert torch.equal(value, fresh[name] if anew else weights[name]), name
    line = f"x2: box_cox, head, body are taken; upsampler and tail start anew for x{scale}"
    (message,) = set(said.messages)
    assert line in message


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("edsr_tiny_x2", {"channels": 4}, "another network: channels differ"),
        ("edsr_tiny_x3", {"channels": 4}, "another network: channels differ"),
        ("edsr_tiny_x4", {"unit": "conv"}, "another network: unit differ"),
        ("edsr_small_x2", {}, "another network: blocks, channels differ"),
        ("vdsr_tiny_x2", {}, "another network: layers differ"),
    ],
)
def test_another_network_is_refused(trained, preset, overrides, message):
    with pytest.raises(CheckpointError, match=message):
        started(preset, overrides, init_from=trained)


def test_once_read_they_are_not_read_again(trained):
    """As where `setup` comes after the command line, or a second fit after the first."""
    system = SuperResolution("edsr_tiny_x2", init_from=str(trained))
    system.read_weights(training=True)
    with torch.no_grad():
        system.model.tail.bias.fill_(5)
    system.read_weights(training=True)
    assert (system.model.tail.bias == 5).all()
