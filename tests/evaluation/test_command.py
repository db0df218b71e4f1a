"""`addersr bench` end to end with tiny networks: tables, files, refusals."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from addersr import checkpoint
from addersr.errors import AdderSRError, BackendError, CheckpointError, DataError, ImageError
from addersr.evaluation.benchmark import BICUBIC
from addersr.evaluation.metrics import psnr, ssim
from addersr.evaluation.protocol import PROTOCOLS
from addersr.images.color import rgb_to_y
from addersr.images.files import from_tensor, to_tensor
from addersr.images.resize import imresize
from addersr.inference.quantize import quantized
from addersr.models.presets import build
from addersr.models.quantized import adder_units

Bench = Callable[..., int]


def scores(path: Path, set_name: str, model: str = "tiny") -> dict[str, Any]:
    results = json.loads(path.read_text())["results"]
    (result,) = [each for each in results if (each["set"], each["model"]) == (set_name, model)]
    assert isinstance(result, dict)
    return result


def test_two_models_at_two_scales_in_every_form(
    root: Path,
    weights: Path,
    weights_x3: Path,
    bench: Bench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each model where it fits, bicubic everywhere; the same figures on the terminal and in the files."""
    outputs = {form: tmp_path / f"scores.{form}" for form in ("json", "csv", "markdown")}
    outputs["json"].write_text("an older result")
    words = [word for form, path in outputs.items() for word in (f"--{form}", path)]
    models = ("--model", weights, "--model", weights_x3)
    assert bench(root, "--set", "Mixed", "Files", "--scale", 3, 2, *models, *words) == 0
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in outputs.values())

    document = json.loads(outputs["json"].read_text())
    assert document["protocol"] == PROTOCOLS["ycbcr-float"].describe()
    found = [(each["scale"], each["set"], each["model"]) for each in document["results"]]
    assert found == [
        (scale, name, model)
        for scale, own in ((2, "tiny"), (3, "tiny_x3"))
        for name in ("Mixed", "Files")
        for model in (BICUBIC, own)
    ]
    assert document["notes"] == [
        f"{weights}: only x2, left out at x3",
        f"{weights_x3}: only x3, left out at x2",
    ]
    assert [each["lr"] for each in document["results"]] == ["made"] * 2 + ["files"] * 2 + ["made"] * 4
    printed = capsys.readouterr().out
    table, markdown = printed.splitlines(), outputs["markdown"].read_text()
    rows = list(csv.DictReader(outputs["csv"].read_text().splitlines()))
    assert len(rows) == len(document["results"])
    for result, row in zip(document["results"], rows, strict=True):
        assert "pictures" not in result and row["picture"] == ""
        for key in ("psnr", "ssim", "psnr_gain", "ssim_gain", "megapixels_per_second"):
            assert float(row[key]) == result[key]
        assert result["psnr_gain"] == result["psnr"] - result["bicubic_psnr"]
        rate = result["output_pixels"] / 1e6 / result["seconds"]
        assert result["megapixels_per_second"] == pytest.approx(rate)
        start = [f"x{result['scale']}", result["set"], result["model"]]
        cells = next(line.split() for line in table if line.split()[:3] == start)
        assert cells[3:5] == [f"{result['psnr']:.2f}", f"{result['ssim']:.4f}"]
        assert f"| {' | '.join(cells[:5])} |" in markdown
        if result["model"] == BICUBIC:
            assert (result["parameters"], result["precision"]) == (0, None)
        else:
            assert f"{result['psnr_gain']:+.2f} / {result['ssim_gain']:+.4f}" in " ".join(cells)
            assert result["precision"] == cells[-1] == "float32"
            model = build(f"edsr_tiny_x{result['scale']}")
            assert result["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    for text in (printed, markdown):
        for words in (*document["protocol"].values(), *document["notes"]):
            assert words in text
        for result in document["results"]:
            assert result["hr_sha256"] in text and result["lr_sha256"] in text


def test_per_picture(
    root: Path, weights: Path, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = tmp_path / "s.json", tmp_path / "s.csv"
    words = ("--per-picture", "--json", files[0], "--csv", files[1])
    bench(root, "--set", "Mixed", "--model", weights, *words)
    result = scores(files[0], "Mixed")
    assert [picture["name"] for picture in result["pictures"]] == ["colour.png", "grey.png"]
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert [row["picture"] for row in rows] == ["", "colour.png", "grey.png"] * 2
    printed = capsys.readouterr().out
    for picture, row in zip(result["pictures"], rows[4:], strict=True):
        assert (float(row["psnr"]), row["lr_sha256"]) == (picture["psnr"], picture["lr_sha256"])
        line = next(
            line for line in printed.splitlines() if f"{picture['name']}  " in line and "tiny" in line
        )
        assert f"{picture['psnr']:.2f}  {picture['ssim']:.4f}" in line


def test_the_score_is_that_of_the_network_and_of_these_lr_pictures(
    root: Path, weights: Path, bench: Bench, tmp_path: Path
) -> None:
    """Against the network called directly, and the formulas."""
    path = tmp_path / "scores.json"
    bench(root, "--set", "Files", "--set", "Mixed", "--model", weights, "--json", path, "--per-picture")
    model = checkpoint.load(weights).model

    def expected(hr: Any, lr: Any) -> tuple[Any, Any]:
        result = from_tensor(model(to_tensor(lr)).detach())
        a, b = (rgb_to_y(picture)[2:-2, 2:-2] for picture in (result, hr))
        return pytest.approx(psnr(a, b), abs=0.01), pytest.approx(ssim(a, b), abs=1e-4)

    hr = np.array(Image.open(root / "Files/HR/colour.png"))[:44, :50]
    own_lr = np.array(Image.open(root / "Files/LR_bicubic/X2/colourx2.png"))
    for set_name, lr, source in (("Files", own_lr, "files"), ("Mixed", imresize(hr, 1 / 2), "made")):
        result = scores(path, set_name)
        picture = result["pictures"][0]
        assert picture["name"] == "colour.png"
        assert (picture["psnr"], picture["ssim"]) == expected(hr, lr)
        assert result["lr"] == source


def test_a_network_under_srcnns_protocol(root: Path, weights: Path, bench: Bench, tmp_path: Path) -> None:
    """The network gets LR before it is rounded; of its result only Y is rounded."""
    path = tmp_path / "scores.json"
    bench(root, "--set", "Files", "--model", weights, "--protocol", "srcnn", "--json", path)
    hr = np.array(Image.open(root / "Files/HR/colour.png"))[:44, :50]
    lr = np.clip(imresize(hr.astype(np.float64), 1 / 2), 0, 255)
    with torch.inference_mode():
        x = torch.tensor(lr / 255, dtype=torch.float32).movedim(-1, 0)[None]
        result = checkpoint.load(weights).model(x)[0].clamp(0, 1).movedim(0, -1).double().numpy() * 255
    a, b = (np.floor(rgb_to_y(picture) + 0.5)[2:-2, 2:-2] for picture in (result, hr))
    found = scores(path, "Files")
    assert found["psnr"] == pytest.approx(psnr(a, b), abs=0.005)
    assert found["ssim"] == pytest.approx(ssim(a, b), abs=1e-4)
    assert (found["lr"], found["lr_sha256"]) == ("made", None)


def test_tiles_do_not_change_the_score(root: Path, weights: Path, bench: Bench, tmp_path: Path) -> None:
    for tile in ("auto", 8):
        bench(root, "--set", "Mixed", "--model", weights, "--tile", tile, "--json", tmp_path / f"{tile}.json")
    whole, tiled = (scores(tmp_path / f"{tile}.json", "Mixed") for tile in ("auto", 8))
    assert tiled["psnr"] == pytest.approx(whole["psnr"], abs=0.01)


def test_an_infinite_psnr_is_said_and_is_null_in_json(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of pictures, too: what is flat comes back from bicubic as it was."""
    (tmp_path / "Flat").mkdir()
    Image.new("RGB", (30, 30), (10, 20, 30)).save(tmp_path / "Flat" / "flat.png")
    files = tmp_path / "scores.json", tmp_path / "scores.csv"
    words = ("--model", BICUBIC, "--json", files[0], "--csv", files[1])
    bench(tmp_path / "nowhere", "--set", tmp_path / "Flat", *words)
    (result,) = json.loads(files[0].read_text())["results"]
    assert (result["psnr"], result["identical"]) == (None, ["flat.png"])
    assert result["ssim"] == pytest.approx(1.0)
    assert next(csv.DictReader(files[1].read_text().splitlines()))["psnr"] == "inf"
    printed = capsys.readouterr().out
    assert "inf  1.0000" in printed
    assert "equal to HR, so PSNR is inf, and so is the set's mean: flat.png" in printed


def test_a_name_without_its_scale_is_that_of_the_shipped_weights(
    root: Path, bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    words = ("--model", "edsr_small", "--model", "edsr_small_x2", "--json", path)
    assert bench(root, "--set", "Files", "--scale", 2, *words) == 0
    assert [each["model"] for each in json.loads(path.read_text())["results"]] == [BICUBIC, "edsr_small_x2"]
    with pytest.raises(CheckpointError, match="edsr_small is shipped for x2, and --scale asks for x3, x4"):
        bench(root, "--set", "Files", "--scale", 3, 4, "--model", "edsr_small")


def test_two_files_of_one_name_are_told_apart(
    root: Path, weights: Path, bench: Bench, tmp_path: Path
) -> None:
    other, path = tmp_path / "tiny.safetensors", tmp_path / "scores.json"
    shutil.copy(weights, other)
    bench(root, "--set", "Files", "--model", weights, "--model", other, "--json", path)
    first, second = (scores(path, "Files", str(file)) for file in (weights, other))
    assert first["psnr"] == second["psnr"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--set", "Set5"], DataError, "no set Set5"),
        (["--set", "Mixed", "--model", "no_such_model"], CheckpointError, "no_such_model"),
        (["--set", "Mixed", "--scale", 3], CheckpointError, "enlarges x2, and --scale asks for x3"),
        (["--set", "Mixed", "--scale", 3, 4], CheckpointError, "--scale asks for x3, x4"),
        (["--set", "Mixed", "--device", "abacus"], BackendError, "abacus"),
        (["--set", "Mixed", "--json", "no/such/folder/s"], AdderSRError, "no/such/folder/s: --json takes"),
        (["--set", "Mixed", "--csv", "no/such/folder/s"], AdderSRError, "no/such/folder/s: --csv takes"),
        (["--set", "Mixed", "--csv", "s", "--markdown", "./s"], AdderSRError, "name one file"),
        (["--set", "Mixed", "--crop", "0,0,8,8"], AdderSRError, "--compare DIR"),
        (
            ["--set", "Mixed", "--compare", "d", "--compare-pictures", "x"],
            DataError,
            "they have colour, grey",
        ),
    ],
)
def test_errors_are_one_line_and_come_before_any_output(
    root: Path,
    weights: Path,
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[object],
    error: type[AdderSRError],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as raised:
        bench(root, "--model", weights, *arguments)
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().out == ""
    assert os.listdir() == []


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(
    root: Path, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    for form in ("json", "csv", "markdown"):
        with pytest.raises(AdderSRError, match=r"cannot write .*: No space left on device"):
            bench(root, "--set", "Mixed", "--model", BICUBIC, f"--{form}", tmp_path / "scores")
    assert os.listdir(tmp_path) == []


def test_the_sets_before_a_failure_are_kept(
    root: Path, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Mixed", "Broken"):
        shutil.copytree(root / "Mixed", tmp_path / name)
    (tmp_path / "Broken/HR/grey.png").write_text("not a picture")
    path = tmp_path / "scores.json"
    with pytest.raises(ImageError, match=r"grey\.png"):
        bench(tmp_path, "--set", "Mixed", "Broken", "--model", BICUBIC, "--json", path)
    written = json.loads(path.read_text())
    assert [result["set"] for result in written["results"]] == ["Mixed"]
    assert "not complete" in written["notes"][0] and "grey.png" in written["notes"][0]
    assert "x2     Mixed   bicubic" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--scale", "0"], ["--scale", "two"], ["--tile", "0"], ["--protocol", "x"], ["--crop", "1,2"]],
)
def test_bad_arguments(
    root: Path, bench: Bench, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench(root, "--set", "Mixed", *arguments)
    assert stopped.value.code == 2
    assert arguments[1] in capsys.readouterr().err.splitlines()[-1]


def test_int8_weights_are_scored_and_said_to_be_int8(
    root: Path, weights: Path, bench: Bench, tmp_path: Path
) -> None:
    model, file, path = (
        checkpoint.load(weights).model,
        tmp_path / "int8.safetensors",
        tmp_path / "scores.json",
    )
    checkpoint.save(file, quantized(model, dict.fromkeys(adder_units(model), (0.0, 1.0))), {})
    assert bench(root, "--set", "Mixed", "--model", file, "--precision", "int8", "--json", path) == 0
    result = scores(path, "Mixed", "int8")
    assert result["precision"] == "int8"
    assert result["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    with pytest.raises(CheckpointError, match="is quantised to int8"):
        bench(root, "--set", "Mixed", "--model", file, "--precision", "float32")
