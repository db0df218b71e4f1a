"""`addersr quantize`: what a grid covers, what it costs, the file it writes, and what it refuses."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from addersr import checkpoint
from addersr.errors import AdderSRError, CheckpointError, DataError, ImageError
from addersr.images import files
from addersr.inference import quantize
from addersr.inference.upscaler import Upscaler
from addersr.layers import AdderUnit
from addersr.layers.quantized import QuantizedUnit
from addersr.models.quantized import adder_units, is_quantized, parameter_count

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


def command(*words: object) -> int:
    parser = argparse.ArgumentParser()
    quantize.add_arguments(parser)
    return quantize.run(parser.parse_args([str(word) for word in words]))


@pytest.mark.parametrize(
    ("features", "filters", "narrow", "whole"),
    [
        ((0, 9), (-1, 1), (0, 1), (-1, 9)),
        ((-1, 1), (-3, 5), (-1, 1), (-3, 5)),
        ((-5, 1), (-1, 3), (-1, 1), (-5, 3)),
        ((0, 1), (2, 3), (1, 2), (0, 3)),  # nothing in common: the gap
        ((-1, 0), (-3, -2), (-2, -1), (-3, 0)),
    ],
)
def test_what_a_grid_covers(features, filters, narrow, whole):
    assert quantize.grid_span(features, filters) == narrow
    assert quantize.grid_span(features, filters, "whole") == whole


@pytest.mark.parametrize("value", [0.0, 0.5, -300.0])
def test_a_grid_is_never_finer_than_float32_can_use(value):
    low, high = quantize.grid_span((-1000, 1000), (value, value))
    assert low < value < high or low == value == high == 0
    assert high - low >= 0.99e-3 * abs(value) and (low + high) / 2 == pytest.approx(value)


def step_of(unit: QuantizedUnit) -> float:
    return float(unit.grid[0])


def filled_unit(weight: torch.Tensor) -> AdderUnit:
    unit = AdderUnit(weight.shape[1], weight.shape[0]).eval()
    with torch.no_grad():
        unit.adder.weight.copy_(weight)
        unit.norm.running_mean.normal_(-50)
        unit.norm.running_var.uniform_(50, 100)
    return unit


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("low", [0, -100])
def test_outliers_do_not_widen_the_step_and_cost_nothing(seed, low):
    """Values on the grid and outliers beyond it, features above and filters below: exact but for float rounding."""
    torch.manual_seed(seed)
    step = 2.0**-6
    x = torch.randint(low, low + 256, (1, 4, 9, 7)) * step
    weight = torch.randint(low, low + 256, (8, 4, 3, 3)) * step
    x[0, 0, 0, :2] = torch.tensor([low, low + 255]) * step
    weight[0, 0, 0, :2] = torch.tensor([low, low + 255]) * step
    x[torch.rand(x.shape) < 0.1] = 37.77
    weight[torch.rand(weight.shape) < 0.1] = -23.45
    unit = filled_unit(weight)

    def span_of(tensor: torch.Tensor) -> tuple[float, float]:
        return tensor.min().item(), tensor.max().item()

    features = min(0.0, x.min().item()), x.max().item()
    made = QuantizedUnit.of(unit, *quantize.grid_span(features, span_of(weight)))
    assert step_of(made) == pytest.approx(step)
    coarse = QuantizedUnit.of(unit, *quantize.grid_span(features, span_of(weight), "whole"))
    assert step_of(coarse) > 10 * step
    with torch.no_grad():
        exact = unit.double()(x.double())
        error, error_whole = ((each(x) - exact).abs().max() for each in (made, coarse))
    assert exact.std() > 1
    assert error < 1e-4
    assert error_whole > 1e-2, "the comparison would be worth nothing"


@pytest.mark.parametrize("filters", [(2.0, 3.0), (0.5, 0.5), (1.0, 1.0), (-1.0, -0.5)])
def test_nothing_in_common_is_exact_too(filters):
    """Features 0 to 1 and filters beside them, or all alike: every distance is linear."""
    torch.manual_seed(0)
    x = torch.rand(1, 3, 6, 5)
    x[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    unit = filled_unit(torch.empty(6, 3, 3, 3).uniform_(*filters))
    weight = unit.adder.weight
    made = QuantizedUnit.of(unit, *quantize.grid_span((0.0, 1.0), (weight.min().item(), weight.max().item())))
    with torch.no_grad():
        exact = unit.double()(x.double())
        # Alike within the features' range, filters cost the rounding to one step of a thousandth.
        assert (made(x) - exact).abs().max() < 1e-3


def test_ranges_are_of_all_pictures_and_have_zero_in_them(busy):
    model = busy("edsr_tiny_x2")
    pictures = [torch.rand(1, 3, 9, 8), torch.rand(2, 3, 5, 7)]
    first, second, both = (
        quantize.input_ranges(model, chosen) for chosen in (pictures[:1], pictures[1:], pictures)
    )
    assert list(both) == list(adder_units(model)) and len(both) == 6
    for name, (low, high) in both.items():
        assert low <= 0 <= high and low < high
        assert (low, high) == (min(first[name][0], second[name][0]), max(first[name][1], second[name][1]))


@pytest.mark.parametrize("visible", ["at the centre", "at the edge"])
def test_windows_are_what_upscale_feeds(tmp_path, visible):
    """No black from under transparent pixels, also where all that can be seen lies outside the window."""
    side = quantize.WINDOW + 40
    pixels, alpha = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    shown = slice(60, 80) if visible == "at the centre" else slice(0, 5)
    pixels[shown], alpha[shown] = 204, 255
    files.write(tmp_path / "a.png", files.Picture(pixels, alpha))
    (window,) = quantize.load_windows([tmp_path / "a.png"])
    assert torch.equal(window, torch.full((1, 3, quantize.WINDOW, quantize.WINDOW), 204 / 255))


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_file_is_saved_loaded_and_upscales(busy, make_picture, tmp_path, capsys, bits):
    float_file, file = tmp_path / "tiny.safetensors", tmp_path / "new" / "tiny_int8.safetensors"
    model = busy("edsr_tiny_x2")
    checkpoint.save(float_file, model, {"steps": 3, "scores": {"Set5": 37}, "licence": "mine"})
    for i in range(5):
        make_picture(tmp_path / "pictures" / f"folder {i % 2}" / f"{i}.png", (20, 200))
    make_picture(tmp_path / "pictures" / ".hidden" / "0.png")
    (tmp_path / "pictures" / "folder.png").mkdir()
    given = ("--model", float_file, "--data", tmp_path / "pictures", "-o", file, "--bits", bits, "--limit", 4)
    assert command(*given) == 0
    told = capsys.readouterr().out
    assert f"{file}: tiny in {bits} bits (narrow ranges), calibrated on 4 pictures of pictures" in told

    loaded = checkpoint.load(file)
    assert loaded.precision == "int8" and checkpoint.load(float_file).precision == "float32"
    about = {"bits": bits, "range": "narrow", "pictures": 4, "data": "pictures", "float_model": "tiny"}
    about["float_scores"] = {"Set5": 37}  # no score is passed off as the quantised model's
    assert loaded.metadata == {"steps": 3, "licence": "mine", "quantization": about}
    assert (
        parameter_count(loaded.model) == parameter_count(model) == sum(p.numel() for p in model.parameters())
    )
    assert {int(unit.grid[2]) for unit in loaded.model.modules() if isinstance(unit, QuantizedUnit)} == {
        2**bits - 1
    }
    assert not is_quantized(model)

    pixels = np.random.default_rng(0).integers(0, 256, (15, 21, 3), np.uint8)
    difference = Upscaler(loaded.model)(pixels).astype(int) - Upscaler(model)(pixels)
    assert 0 < np.abs(difference).mean() < (2 if bits == 8 else 30)


def test_int8_is_close_to_float32_on_a_photograph(tmp_path):
    command("--model", "edsr_small_x2", "--data", SAMPLES, "-o", tmp_path / "int8.safetensors")
    pixels = files.read(SAMPLES / "chelsea.jpg").pixels[60:160, 100:230]
    ours, exact = (
        Upscaler(checkpoint.load(name).model)(pixels).astype(float)
        for name in (tmp_path / "int8.safetensors", "edsr_small_x2")
    )
    assert 10 * np.log10(255**2 / np.square(ours - exact).mean()) > 45


def test_what_is_refused(busy, weights, make_picture, tmp_path):
    pictures, empty = tmp_path / "pictures", tmp_path / "empty"
    make_picture(pictures / "a.png")
    empty.mkdir()
    out = tmp_path / "out.safetensors"

    def refused(error: type[AdderSRError], message: str, **changed: object) -> None:
        given = {"--model": weights[2], "--data": pictures, "-o": out} | {
            f"--{k}": v for k, v in changed.items()
        }
        given["-o"] = given.pop("--output", out)
        with pytest.raises(error, match=message) as caught:
            command(*(word for pair in given.items() for word in pair))
        assert "\n" not in str(caught.value) and not out.exists()

    refused(DataError, "no such folder: .*missing; --data takes a folder", data=tmp_path / "missing")
    refused(DataError, "no pictures in .*empty; readable are", data=empty)
    refused(CheckpointError, "no weights are called 'nonsense'", model="nonsense")
    refused(CheckpointError, r"written as \.safetensors, got -o .*out\.pth", output=tmp_path / "out.pth")
    refused(AdderSRError, "would overwrite the float32 weights", output=weights[2])
    refused(ImageError, "cannot be written", output=pictures / "a.png" / "out.safetensors")
    (empty / "folder.safetensors").mkdir()
    refused(CheckpointError, "is a folder; name a file", output=empty / "folder.safetensors")

    twin = tmp_path / "twin.safetensors"
    checkpoint.save(twin, busy("edsr_tiny_x2", unit="conv"), {})
    refused(CheckpointError, "is a convolutional network: it has no adder units", model=twin)
    done = tmp_path / "done.safetensors"
    command("--model", weights[2], "--data", pictures, "-o", done)
    refused(CheckpointError, "done.safetensors is quantised already; name its float32 weights", model=done)

    (pictures / "b.png").write_bytes(b"no picture")
    refused(ImageError, "b.png")


@pytest.mark.parametrize("bits", ["9", "3", "0", "many"])
def test_bits_out_of_range(bits, capsys):
    with pytest.raises(SystemExit):
        command("--model", "m", "--data", "d", "-o", "o", "--bits", bits)
    assert "argument --bits" in capsys.readouterr().err
