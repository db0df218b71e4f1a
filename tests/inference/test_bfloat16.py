"""bfloat16 for convolutions; what adder units compute stays in float32."""

import pytest
import torch
from torch import nn

from addersr import checkpoint
from addersr.cli import main
from addersr.errors import CheckpointError
from addersr.inference.quantize import input_ranges, quantized
from addersr.inference.upscaler import Upscaler
from addersr.layers import AdderUnit

NETWORKS = [
    ("edsr_tiny_x2", {"unit": "conv"}),
    ("edsr_tiny_x4", {"unit": "conv", "global_skip": "none"}),
    ("edsr_tiny_x2", {}),
    ("edsr_tiny_x3", {"upsampler": "conv"}),
    ("vdsr_tiny_x2", {"unit": "conv"}),
    ("vdsr_tiny_x2", {}),
]


def noise(*size: int) -> torch.Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tile", [None, 9])
@pytest.mark.parametrize(("name", "overrides"), NETWORKS, ids=str)
def test_near_float32(busy, name, overrides, tile):
    model = busy(name, **overrides)
    x = noise(21, 26)
    upscaler = Upscaler(model, tile=tile, bfloat16=True)
    result = upscaler.upscale_tensor(x)
    error = (result - Upscaler(model).upscale_tensor(x)).abs()
    assert result.dtype == torch.float32 and upscaler.precision == "bfloat16"
    # On average less than half a level of an 8-bit picture, and at most four levels, as the README says.
    assert 0 < error.mean() < 2**-9 and error.max() < 2**-6


@pytest.mark.parametrize("name", ["vdsr_tiny_x2", "edsr_tiny_x2"])
def test_adder_units_compute_in_float32_and_convolutions_do_not(busy, name, monkeypatch):
    monkeypatch.setattr("addersr.inference.upscaler.fusable", lambda model: False)
    model = busy(name)
    types: dict[type, set[torch.dtype]] = {nn.Conv2d: set(), AdderUnit: set()}
    for module in model.modules():
        if type(module) in types:
            module.register_forward_hook(lambda module, _, y: types[type(module)].add(y.dtype))
    upscaler = Upscaler(model, bfloat16=True, tile=None)
    upscaler.upscale_tensor(noise(8, 9))
    assert types == {nn.Conv2d: {torch.bfloat16}, AdderUnit: {torch.float32}}


def test_int8_weights_are_refused(busy, make_picture, tmp_path, capsys):
    model = busy("edsr_tiny_x2")
    model = quantized(model, input_ranges(model, [noise(12, 12)]))
    with pytest.raises(CheckpointError, match="quantised to int8 cannot run in bfloat16"):
        Upscaler(model, bfloat16=True)
    file = tmp_path / "int8.safetensors"
    checkpoint.save(file, model, {})
    words = ["upscale", str(make_picture(tmp_path / "a.png")), "-o", str(tmp_path / "b.png")]
    assert main([*words, "--model", str(file), "--precision", "bfloat16"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"addersr: error: {file} is quantised to int8; name its float32 weights"
    assert not (tmp_path / "b.png").exists()


def test_upscale_takes_it(weights, make_picture, tmp_path):
    words = ["upscale", str(make_picture(tmp_path / "a.png")), "-o", str(tmp_path / "b.png")]
    assert main([*words, "--model", str(weights[2]), "--precision", "bfloat16"]) == 0
    assert (tmp_path / "b.png").exists()


def test_a_convolutional_network_has_no_int8_form(busy, tmp_path, capsys):
    file = tmp_path / "twin.safetensors"
    checkpoint.save(file, busy("edsr_tiny_x2", unit="conv"), {})
    assert main(["upscale", "x", "-o", "y", "--model", str(file), "--precision", "int8"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("is a convolutional network, which has no int8 form")
