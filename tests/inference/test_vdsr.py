"""VDSR through what was made for EDSR: upscaled in tiles, its weights kept; what it has no form of is refused."""

import pytest
import torch

from addersr import checkpoint
from addersr.cli import main
from addersr.inference.fused import FusedEDSR
from addersr.inference.upscaler import Upscaler
from addersr.models import VDSR


@pytest.fixture
def weights(busy, tmp_path):
    path = tmp_path / "deep.safetensors"
    checkpoint.save(path, busy("vdsr_tiny_x2"), {"steps": 1})
    return path


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("narrower", [0, 1])
def test_tiled_equals_whole(busy, scale, narrower):
    """And with a smaller halo it would not."""
    model = busy(f"vdsr_tiny_x{scale}").double()
    x = torch.rand(1, 3, 29, 31, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = Upscaler(model, tile=None).upscale_tensor(x)
    model.radius -= narrower
    tiled = Upscaler(model, tile=13).upscale_tensor(x)
    assert ((tiled - whole).abs().max() < 1e-12) == (narrower == 0)


def test_weights_make_a_round_trip(weights, busy):
    loaded = checkpoint.load(weights)
    assert (
        isinstance(loaded.model, VDSR) and loaded.metadata == {"steps": 1} and loaded.precision == "float32"
    )
    x = torch.rand(1, 3, 5, 7)
    assert torch.equal(loaded.model(x), busy("vdsr_tiny_x2")(x))


def test_upscale_and_bench_take_it(weights, make_picture, tmp_path, capsys):
    make_picture(tmp_path / "sets" / "One" / "HR" / "a.png", (24, 26))
    words = ["--model", str(weights)]
    picture = str(tmp_path / "sets" / "One" / "HR" / "a.png")
    assert main(["upscale", picture, "-o", str(tmp_path / "out.png"), *words]) == 0
    assert (tmp_path / "out.png").exists()
    assert main(["bench", "--data", str(tmp_path / "sets"), "--set", "One", *words]) == 0
    assert "deep" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quantize", "--data", "x", "-o", "q.safetensors"], "is of VDSR; only EDSR can be quantised"),
        (["upscale", "x", "-o", "y", "--precision", "int8"], "is of VDSR, which has no int8 form"),
    ],
)
def test_there_is_no_int8_form_of_it(weights, capsys, words, message):
    assert main([*words, "--model", str(weights)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_nor_an_onnx_model(weights, capsys, tmp_path):
    assert main(["export", str(weights), "-o", str(tmp_path / "v.onnx")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the network is a VDSR; only EDSR can be exported to ONNX" in line


def test_nor_a_fused_one(busy):
    with pytest.raises(ValueError, match="only an EDSR of adder units"):
        FusedEDSR(busy("vdsr_tiny_x2"))
