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
from addersr.models.presets import build

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
        assert document["timing"].endswith(f"; on cpu, CPU threads: {torch.get_num_threads()}")
        for words in (*document["protocol"].values(), document["timing"], *document["notes"]):
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
    files = tmp_path / "made" / "scores.json", tmp_path / "made" / "here" / "scores.csv"
    words = ("--model", BICUBIC, "--json", files[0], "--csv", files[1])
    bench(tmp_path / "nowhere", "--set", tmp_path / "Flat", *words)
    (result,) = json.loads(files[0].read_text())["results"]
    assert (result["psnr"], result["identical"]) == (None, ["flat.png"])
    assert result["ssim"] == pytest.approx(1.0)
    assert next(csv.DictReader(files[1].read_text().splitlines()))["psnr"] == "inf"
    printed = capsys.readouterr().out
    assert "inf  1.0000" in printed
    assert "equal to HR, so PSNR is inf, and so is the set's mean: flat.png" in printed


def test_a_set_given_twice_is_scored_once(root: Path, bench: Bench, tmp_path: Path) -> None:
    """However it is named; without its LR files it is another set."""
    path = tmp_path / "scores.json"
    names = ["Files", root / "Files", "Mixed", "Files", root / "Files/HR"]
    bench(root, "--set", *names, "--model", BICUBIC, "--json", path)
    document = json.loads(path.read_text())
    found = [(each["set"], each["lr"]) for each in document["results"]]
    assert found == [("Files", "files"), ("Mixed", "made"), (str(root / "Files/HR"), "made")]
    assert document["notes"] == [
        f"set {root / 'Files'}: the same pictures as set Files, scored once",
        "set Files: the same pictures as set Files, scored once",
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--set", "Set5"], DataError, "no set Set5"),
        (["--set", "Mixed", "--model", "no_such_model"], CheckpointError, "no_such_model"),
        (["--set", "Mixed", "--scale", 3], CheckpointError, "enlarges x2, and --scale asks for x3"),
        (["--set", "Mixed", "--scale", 3, 4], CheckpointError, "--scale asks for x3, x4"),
        (["--set", "Mixed", "--device", "abacus"], BackendError, "abacus"),
        (["--set", "Mixed", "--json", "/dev/null/s"], AdderSRError, "/dev/null/s: --json takes"),
        (["--set", "Mixed", "--csv", "/dev/null/a/s"], AdderSRError, "/dev/null/a/s: --csv takes"),
        (["--set", "Mixed", "--csv", "s", "--markdown", "./s"], AdderSRError, "name one file"),
        (["--set", "Mixed", "--precision", "int8"], CheckpointError, "is in float32; quantise it"),
        (["--set", "Mixed", "--crop", "0,0,8,8"], AdderSRError, "--compare DIR"),
        (
            ["--set", "Files", "Mixed", "--compare", "d", "--crop", "0,44,8,8"],
            DataError,
            "colour.png, 50x44 pixels at x2; say by --compare-pictures",
        ),
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


def test_names_that_are_no_utf8(root: Path, bench: Bench, tmp_path: Path) -> None:
    shutil.copytree(root / "Mixed", tmp_path / "Mixed")
    picture = next((tmp_path / "Mixed/HR").glob("*.png"))
    picture.rename(picture.with_name(os.fsdecode(b"\xff.png")))
    outputs = {form: tmp_path / f"scores.{form}" for form in ("json", "csv", "markdown")}
    words = [word for form, path in outputs.items() for word in (f"--{form}", path)]
    assert bench(tmp_path, "--set", "Mixed", "--model", BICUBIC, "--per-picture", *words) == 0
    assert all(r"\udcff" in path.read_text() for path in outputs.values())


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
    broken = tmp_path / "Broken/HR/grey.png"
    broken.write_bytes(broken.read_bytes()[:-200])  # which its beginning does not tell
    path = tmp_path / "scores.json"
    with pytest.raises(ImageError, match=r"grey\.png"):
        bench(tmp_path, "--set", "Mixed", "Broken", "--model", BICUBIC, "--json", path)
    written = json.loads(path.read_text())
    assert [result["set"] for result in written["results"]] == ["Mixed"]
    assert "not complete" in written["notes"][0] and "grey.png" in written["notes"][0]
    assert "x2     Mixed   bicubic" in capsys.readouterr().out


def sixteen_bits(folder: Path) -> Path:
    path = folder / "HR/grey.png"
    Image.fromarray(np.full((40, 40), 40000, np.uint16)).save(path)
    return path


def too_small(folder: Path) -> Path:
    path = folder / "HR/grey.png"
    Image.new("RGB", (15, 40)).save(path)
    return path


def no_picture(folder: Path) -> Path:
    path = folder / "HR/grey.png"
    path.write_text("not a picture")
    return path


def lr_of_another_size(folder: Path) -> Path:
    path = folder / "LR_bicubic/X2/greyx2.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (25, 22)).save(path.with_name("colourx2.png"))
    Image.new("RGB", (25, 21)).save(path)
    return path


@pytest.mark.parametrize("spoil", [sixteen_bits, too_small, no_picture, lr_of_another_size])
def test_a_picture_that_cannot_be_scored_is_told_before_anything_is(
    root: Path,
    bench: Bench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], Path],
) -> None:
    """In the second set: the first one is not begun."""
    shutil.copytree(root / "Mixed", tmp_path / "Spoilt")
    path = spoil(tmp_path / "Spoilt")
    words = ("--set", "Mixed", tmp_path / "Spoilt", "--model", BICUBIC, "--json", tmp_path / "scores.json")
    with pytest.raises((DataError, ImageError)) as error:
        bench(root, *words)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert capsys.readouterr().out == "" and not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scale", "0"],
        ["--scale", "two"],
        ["--tile", "0"],
        ["--protocol", "x"],
        ["--precision", "float8"],
        ["--crop", "1,2"],
    ],
)
def test_bad_arguments(
    root: Path, bench: Bench, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench(root, "--set", "Mixed", *arguments)
    assert stopped.value.code == 2
    assert arguments[1] in capsys.readouterr().err.splitlines()[-1]
