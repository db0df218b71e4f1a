"""Energy: the published figures to their last digit, and what the command says."""

import json

import pytest
import torch
from torch import nn

from addersr import checkpoint
from addersr.cli import main
from addersr.energy.estimate import FLOAT32, INT8, Energy, estimate, measure
from addersr.energy.operations import CONVOLUTIONS, UNITS, Operations, count
from addersr.inference.quantize import quantized
from addersr.models import VDSR, build
from addersr.models.quantized import adder_units


def energy(capsys, *words: str) -> dict:
    assert main(["energy", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "gmac", "twin", "adder", "ratio"),
    [
        (["vdsr_x2"], "612.6", "2818", "1106", "2.55"),
        (["edsr_large_x2", "--upsampler", "conv"], "9384.7", "43170", "18437", "2.34"),
        (["edsr_large_x2", "--upsampler", "adder"], "9384.7", "43170", "16915", "2.55"),
        (["edsr_baseline_x2", "--upsampler", "conv"], "316.2", "1455", "670", "2.17"),
        (["edsr_baseline_x2"], "316.2", "1455", "575", "2.53"),
    ],
    ids=str,
)
def test_published_figures(capsys, words, gmac, twin, adder, ratio):
    found = energy(capsys, "--output-size", "1280x720", "--model", *words)
    assert f"{found['twin_gmac']:.1f}" == f"{found['twin']['gmul']:.1f}" == gmac
    assert f"{found['twin']['mj']:.0f}" == twin
    assert f"{found['float32']['mj']:.0f}" == adder
    assert f"{found['twin']['mj'] / found['float32']['mj']:.2f}" == ratio
    assert found["gmac"] + found["gsad"] == pytest.approx(found["twin_gmac"])


def test_prices_of_a_mac_and_a_sad():
    mac, sad = Operations(1, 1), Operations(0, 2)
    assert FLOAT32.millijoules(mac) == pytest.approx(4.6e-9)
    assert FLOAT32.millijoules(mac) / FLOAT32.millijoules(sad) == pytest.approx(2.56, abs=0.005)
    assert INT8.millijoules(mac) / INT8.millijoules(sad) == pytest.approx(3.83, abs=0.005)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("edsr_tiny_x2", {}),
        ("edsr_tiny_x3", {"upsampler": "conv", "box_cox": False}),
        ("edsr_tiny_x4", {"unit": "conv"}),
        ("vdsr_tiny_x2", {}),
        ("vdsr_tiny_x3", {"unit": "conv", "box_cox": False}),
    ],
)
def test_layers_and_what_is_beside_them_are_all_that_the_network_computes(name, overrides):
    with torch.device("meta"):
        model = build(name, **overrides).eval()
    own, _ = measure(model, 15, 22)
    parts = sum(own.beside("float32").values(), own.layers)
    whole = count(model, 15, 22)
    assert parts == sum(whole.values(), Operations())
    assert ("Box-Cox stage" in own.counts) == model.config["box_cox"]
    # Colour is in VDSR's first and last layer, and in all that is done to the picture.
    assert ("colour in place of luminance" in own.counts) == isinstance(model, VDSR)
    if not isinstance(model, VDSR) and not model.config["box_cox"]:
        assert own.layers == whole[CONVOLUTIONS] + whole.get(UNITS, Operations())


@pytest.mark.parametrize("upsampler", ["adder", "conv"])
def test_int8_is_of_the_layers_that_a_quantised_network_has_in_bytes(upsampler):
    model = build("edsr_tiny_x2", upsampler=upsampler, box_cox=False).eval()
    quantised = quantized(model, dict.fromkeys(adder_units(model), (0.0, 1.0)))
    macs = sum(
        layer.weight.numel() * (4 if name == "tail" else 1) * 30
        for name, layer in quantised.named_modules()
        if isinstance(layer, nn.Conv2d)
    )
    sads = sum(tensor.numel() * 30 for tensor in quantised.buffers() if tensor.dtype == torch.uint8)
    own, twin = measure(model, 5, 6)
    assert own.layers_mj("int8") == pytest.approx((4.6 * macs + 0.06 * sads) * 1e-9)
    assert twin.layers_mj("int8") == pytest.approx((4.6 * macs + 0.23 * sads) * 1e-9)


def test_an_estimate_is_of_all_parts_in_the_precision_of_the_weights():
    model = build("edsr_tiny_x2").eval()
    int8 = quantized(model, dict.fromkeys(adder_units(model), (0.0, 1.0)))
    own, twin = measure(model, 9, 14)
    for network, precision in ((model, "float32"), (int8, "int8")):
        found = estimate(network, 9, 14)
        assert found.mj == pytest.approx(own.total_mj(precision))
        assert found.twin_mj == pytest.approx(twin.total_mj(precision))
    convolutional = estimate(build("edsr_tiny_x2", unit="conv"), 9, 14)
    assert convolutional.mj == convolutional.twin_mj == pytest.approx(twin.total_mj("float32"))


def test_a_convolutional_network_is_its_own_twin(capsys, tmp_path):
    file = tmp_path / "twin.safetensors"
    checkpoint.save(file, build("edsr_tiny_x2", unit="conv"), {})
    found = energy(capsys, "--model", str(file))
    assert found["float32"] == found["twin"] and found["gsad"] == 0 and found["model"] == "twin"
    assert main(["energy", "--model", str(file)]) == 0
    assert "adder" not in capsys.readouterr().out


def test_json(capsys):
    found = energy(capsys, "--model", "edsr_small_x2")
    assert set(found["float32"]) == set(found["int8"]) == set(found["twin"]) == {"gmul", "gadd", "mj"}
    assert found["output_size"] == "1280x720" and found["input_size"] == "640x360"
    for key in ("float32", "int8", "twin", "twin_int8"):
        parts = [found[key], *found["beside"][key].values()]
        assert found["total_mj"][key] == pytest.approx(sum(part["mj"] for part in parts))
    assert energy(capsys, "--model", "edsr_small_x2_int8") == found | {"model": "edsr_small_x2_int8"}


def test_a_model_is_named_as_for_bench(capsys, tmp_path, monkeypatch):
    """Weights without their scale, and files of any suffix; a name that stands for several is no choice."""
    expected = energy(capsys, "--model", "edsr_small_x2")
    assert energy(capsys, "--model", "edsr_small") == expected
    assert energy(capsys, "--model", "edsr_small_int8") == expected | {"model": "edsr_small_x2_int8"}
    (tmp_path / "mine").write_bytes(checkpoint.shipped()["edsr_small_x2"].read_bytes())
    assert energy(capsys, "--model", str(tmp_path / "mine")) == expected | {"model": "mine"}
    for scale in (2, 4):
        checkpoint.save(tmp_path / f"net_x{scale}.safetensors", build(f"edsr_tiny_x{scale}"), {})
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    assert main(["energy", "--model", "net"]) == 1
    assert "net stands for net_x2, net_x4; name one of them" in capsys.readouterr().err


def test_tables(capsys):
    assert main(["energy", "--model", "edsr_baseline_x2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "edsr_baseline_x2: 640x360 to 1280x720"
    assert "2.0 GMAC, 314.3 GSAD" in lines[1] and "316.2 GMAC" in lines[1]
    (adder,) = (line.split() for line in lines if line.startswith("adder float32"))
    assert adder[2:] == ["2.0", "630.5", "574.8", "2.53"]
    assert max(map(len, lines)) <= 120


def test_a_size_is_rounded_up_to_a_multiple_of_the_scale(capsys):
    words = ["--model", "edsr_tiny_x3", "--output-size"]
    found = energy(capsys, *words, "1280x720")
    assert found["input_size"] == "427x240" and found["output_size"] == "1281x720"
    assert found == energy(capsys, *words, "1281x720")
    assert main(["energy", *words, "1280x720"]) == 0
    assert "427x240 to 1281x720, the next multiple of the scale" in capsys.readouterr().out


def test_no_size_takes_memory(capsys):
    found = energy(capsys, "--model", "edsr_large_x2", "--output-size", "100000x100000")
    assert found["twin_gmac"] == pytest.approx(9384.7486 * 1e10 / (1280 * 720), rel=1e-6)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--model", "edsr_huge_x2"], 1, "no network is called 'edsr_huge_x2'; there are edsr_tiny_x2"),
        (["--model", "missing.safetensors"], 1, "no weights are called 'missing.safetensors'"),
        (["--model", "vdsr_x2", "--upsampler", "conv"], 1, "vdsr_x2 has no upsampler"),
        (["--model", "edsr_small_x2_int8", "--upsampler", "conv"], 1, "leave out --upsampler"),
        (["--model", "vdsr_x2", "--output-size", "1280"], 2, "must be WIDTHxHEIGHT, such as 1280x720"),
        (["--model", "vdsr_x2", "--output-size", "0x720"], 2, "must be WIDTHxHEIGHT"),
        (["--model", "vdsr_x2", "--output-size", "100001x2"], 2, "each at most 100000"),
        ([], 2, "--model"),
    ],
)
def test_errors_are_one_line(capsys, words, code, message):
    try:
        assert main(["energy", *words]) == code
    except SystemExit as stopped:
        assert stopped.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    _, _, listed = line.partition("there are ")
    names = listed.split(", ")
    assert len(set(names)) == len(names)


def test_without_units_all_layers_are_in_float32():
    energy = Energy({CONVOLUTIONS: Operations(1000, 1000)})
    assert energy.layers_mj("int8") == energy.layers_mj("float32") == pytest.approx(4600e-9)
