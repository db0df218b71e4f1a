"""`addersr bench` end to end with a tiny network, and the bicubic rows of the literature."""

import argparse
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from addersr import checkpoint
from addersr.errors import AdderSRError, BackendError, CheckpointError, DataError, ImageError
from addersr.evaluation.benchmark import BICUBIC, Model, add_arguments, run, score_set
from addersr.evaluation.metrics import psnr, ssim
from addersr.evaluation.protocol import PROTOCOLS
from addersr.evaluation.sets import find_pictures
from addersr.images.color import rgb_to_y
from addersr.images.files import from_tensor, to_tensor
from addersr.images.resize import imresize
from addersr.inference.quantize import quantized
from addersr.models.presets import build
from addersr.models.quantized import adder_units


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoint.save(path, build("edsr_tiny_x2"), {})
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`Mixed`: RGB of odd size and one channel, LR to be made. `Files`: LR for x2 that is not bicubic."""
    root = tmp_path_factory.mktemp("sets")
    rows, columns = np.mgrid[:45, :51]
    waves = [128 + 90 * np.sin(rows / (3 + c)) * np.cos(columns / 5) for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 8, (45, 51, 3))
    picture = np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)
    for folder in ("Mixed/HR", "Files/HR", "Files/LR_bicubic/X2"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(picture).save(root / "Mixed/HR/colour.png")
    Image.fromarray(picture[..., 0]).save(root / "Mixed/HR/grey.png")
    Image.fromarray(picture).save(root / "Files/HR/colour.png")
    Image.fromarray(picture[:44:2, :50:2]).save(root / "Files/LR_bicubic/X2/colourx2.png")
    return root


def bench(root: Path, *arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(["--data", str(root), "--device", "cpu", *map(str, arguments)]))


def scores(path: Path, set_name: str) -> dict[str, Any]:
    found = [result for result in json.loads(path.read_text())["results"] if result["set"] == set_name]
    assert len(found) == 1
    result: dict[str, Any] = found[0]
    return result


def test_the_table_and_the_json_file(
    root: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scores.json"
    path.write_text("an older result")
    assert bench(root, "--set", "Mixed", "Files", "--scale", 2, "--model", weights, "--json", path) == 0

    document = json.loads(path.read_text())
    assert list(document) == ["protocol", "results"]
    assert document["protocol"] == PROTOCOLS["float-y"].describe()
    assert [result["set"] for result in document["results"]] == ["Mixed", "Files"]
    promised = ["model", "set", "scale", "psnr", "ssim", "bicubic_psnr", "bicubic_ssim", "images", "seconds"]
    model = build("edsr_tiny_x2")
    for result, images in zip(document["results"], (2, 1), strict=True):
        assert list(result)[: len(promised)] == promised
        assert (result["model"], result["scale"], result["images"]) == ("tiny", 2, images)
        assert result["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert result["precision"] == "float32"
        assert result["seconds"] > 0
        assert len(result["pictures"]) == images
        for key in ("psnr", "ssim", "bicubic_psnr", "bicubic_ssim"):
            assert result[key] == pytest.approx(np.mean([picture[key] for picture in result["pictures"]]))
    assert os.listdir(tmp_path) == ["scores.json"]

    printed = capsys.readouterr().out
    for text in document["protocol"].values():
        assert text in printed
    for result in document["results"]:
        row = next(line for line in printed.splitlines() if line.startswith(f"tiny   {result['set']}"))
        assert f"{result['psnr']:.2f}/{result['ssim']:.4f}" in row
        assert f"{result['bicubic_psnr']:.2f}/{result['bicubic_ssim']:.4f}" in row
        assert result["lr_sha256"][:12] in row


def test_the_score_is_that_of_the_network_and_of_these_lr_pictures(
    root: Path, weights: Path, tmp_path: Path
) -> None:
    """Against the network called directly, and the formulas."""
    path = tmp_path / "scores.json"
    bench(root, "--set", "Files", "--set", "Mixed", "--model", weights, "--json", path)
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
        assert picture["lr_sha256"] == hashlib.sha256(lr.tobytes()).hexdigest()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bicubic_as_the_model_scores_as_the_column_beside_it(
    root: Path, tmp_path: Path, protocol: str
) -> None:
    path = tmp_path / "scores.json"
    bench(root, "--set", "Mixed", "--model", BICUBIC, "--scale", 3, "--protocol", protocol, "--json", path)
    result = scores(path, "Mixed")
    assert (result["model"], result["scale"], result["parameters"]) == (BICUBIC, 3, 0)
    assert result["precision"] is None
    assert (result["psnr"], result["ssim"]) == (result["bicubic_psnr"], result["bicubic_ssim"])


def test_a_network_under_srcnns_protocol(root: Path, weights: Path, tmp_path: Path) -> None:
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


def test_tiles_do_not_change_the_score(root: Path, weights: Path, tmp_path: Path) -> None:
    for tile in ("auto", 8):
        bench(root, "--set", "Mixed", "--model", weights, "--tile", tile, "--json", tmp_path / f"{tile}.json")
    whole, tiled = (scores(tmp_path / f"{tile}.json", "Mixed") for tile in ("auto", 8))
    assert tiled["psnr"] == pytest.approx(whole["psnr"], abs=0.01)


def test_an_infinite_psnr_is_null_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Flat" / "HR").mkdir(parents=True)
    Image.new("RGB", (30, 30), (10, 20, 30)).save(tmp_path / "Flat" / "HR" / "flat.png")
    bench(tmp_path, "--set", "Flat", "--model", BICUBIC, "--json", tmp_path / "scores.json")
    result = scores(tmp_path / "scores.json", "Flat")
    assert result["psnr"] is None
    assert result["pictures"][0]["bicubic_psnr"] is None
    assert result["ssim"] == pytest.approx(1.0)
    assert "inf/1.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--set", "Set5"], DataError, "no set Set5"),
        (["--set", "Mixed", "--model", "no_such_model"], CheckpointError, "no_such_model"),
        (["--set", "Mixed", "--scale", 3], CheckpointError, "x3"),
        (["--set", "Mixed", "--device", "abacus"], BackendError, "abacus"),
        (
            ["--set", "Mixed", "--json", "no/such/folder/scores.json"],
            AdderSRError,
            "no/such/folder/scores.json",
        ),
    ],
)
def test_errors_are_one_line_and_come_before_any_output(
    root: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[object],
    error: type[AdderSRError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as raised:
        bench(root, "--model", weights, *arguments)
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().out == ""


def test_a_json_file_that_cannot_be_replaced_leaves_nothing_behind(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(AdderSRError, match=r"cannot write .*: No space left on device"):
        bench(root, "--set", "Mixed", "--model", BICUBIC, "--json", tmp_path / "scores.json")
    assert os.listdir(tmp_path) == []


def test_the_sets_before_a_failure_are_kept(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Mixed", "Broken"):
        shutil.copytree(root / "Mixed", tmp_path / name)
    (tmp_path / "Broken/HR/grey.png").write_text("not a picture")
    path = tmp_path / "scores.json"
    with pytest.raises(ImageError, match=r"grey\.png"):
        bench(tmp_path, "--set", "Mixed", "Broken", "--model", BICUBIC, "--json", path)
    assert [result["set"] for result in json.loads(path.read_text())["results"]] == ["Mixed"]
    assert "bicubic  Mixed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--scale", "0"], ["--scale", "two"], ["--tile", "0"], ["--protocol", "x"]]
)
def test_bad_arguments(root: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench(root, "--set", "Mixed", *arguments)
    assert stopped.value.code == 2
    assert arguments[1] in capsys.readouterr().err.splitlines()[-1]


# PSNR/SSIM of bicubic at x2, x3, x4. Set5 under srcnn is the published row; the others were measured for this
# project with another program, to the digits given.
BICUBIC_ROWS = {
    ("Set5", "srcnn"): ("33.66/.9299", "30.39/.8682", "28.42/.8104"),
    ("Set5", "float-y"): ("33.6734/.93029", "30.4033/.86891", "28.4290/.81114"),
    ("Set5", "uint8-y"): ("33.6396/.92922", "30.3850/.86779", "28.4165/.81008"),
    ("Set14", "srcnn"): ("30.232/.8687", "27.541/.7736", "26.000/.7019"),
    ("Set14", "uint8-y"): ("30.218/.8683", "27.530/.7737", "25.990/.7023"),
    ("B100", "srcnn"): ("29.558/.8431", "27.207/.7384", "25.961/.6674"),
    ("B100", "uint8-y"): ("29.547/.8425", "27.202/.7382", "25.956/.6672"),
    ("Urban100_sub34", "srcnn"): ("26.953/.8550", "24.529/.7549", "23.153/.6784"),
}


@pytest.mark.skipif(
    "ADDERSR_SETS" not in os.environ, reason="ADDERSR_SETS does not name a folder of benchmark sets"
)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "protocol"), BICUBIC_ROWS, ids=["-".join(key) for key in BICUBIC_ROWS])
def test_bicubic_rows_to_the_last_printed_digit(name: str, protocol: str, scale: int) -> None:
    root = Path(os.environ["ADDERSR_SETS"])
    if not (root / name).is_dir():
        pytest.skip(f"ADDERSR_SETS has no {name}")
    row = BICUBIC_ROWS[name, protocol][scale - 2]
    psnr_digits, ssim_digits = (len(number.partition(".")[2]) for number in row.split("/"))
    pictures = find_pictures(root, name, scale)
    result = score_set(Model(BICUBIC, scale), pictures, PROTOCOLS[protocol], name=name)
    measured = f"{result.psnr:.{psnr_digits}f}/{result.ssim:.{ssim_digits}f}".replace("/0.", "/.")
    assert measured == row, f"{result.psnr:.6f}/{result.ssim:.6f}"


def test_int8_weights_are_scored_and_said_to_be_int8(root: Path, weights: Path, tmp_path: Path) -> None:
    model, file, path = (
        checkpoint.load(weights).model,
        tmp_path / "int8.safetensors",
        tmp_path / "scores.json",
    )
    checkpoint.save(file, quantized(model, dict.fromkeys(adder_units(model), (0.0, 1.0))), {})
    assert bench(root, "--set", "Mixed", "--model", file, "--precision", "int8", "--json", path) == 0
    result = scores(path, "Mixed")
    assert result["precision"] == "int8"
    assert result["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    with pytest.raises(CheckpointError, match="is quantised to int8"):
        bench(root, "--set", "Mixed", "--model", file, "--precision", "float32")
