"""Which models `addersr bench` scores: names, scales, precisions, labels, and what it says it leaves out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from addersr import checkpoint
from addersr.errors import CheckpointError
from addersr.evaluation.benchmark import BICUBIC
from addersr.inference.quantize import quantized
from addersr.models.quantized import adder_units

Bench = Callable[..., int]


def test_a_name_without_its_scale_is_that_of_the_shipped_weights(
    root: Path, bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    words = ("--model", "edsr_small", "--model", "edsr_small_x2", "--json", path)
    assert bench(root, "--set", "Files", "--scale", 2, *words) == 0
    assert [each["model"] for each in json.loads(path.read_text())["results"]] == [BICUBIC, "edsr_small_x2"]
    with pytest.raises(CheckpointError, match="edsr_small enlarges x2, and --scale asks for x3, x4"):
        bench(root, "--set", "Files", "--scale", 3, 4, "--model", "edsr_small")


def test_two_files_of_one_name_are_told_apart_and_one_file_is_scored_once(
    root: Path, weights: Path, bench: Bench, tmp_path: Path
) -> None:
    """Not by the whole path: by as much of its end as it takes."""
    other, path = tmp_path / "tiny.safetensors", tmp_path / "scores.json"
    shutil.copy(weights, other)
    link = tmp_path / "link.safetensors"
    link.symlink_to(other)
    models = [word for file in (weights, other, link, weights) for word in ("--model", file)]
    bench(root, "--set", "Files", *models, "--json", path)
    document = json.loads(path.read_text())
    assert [each["model"] for each in document["results"]] == [
        BICUBIC,
        f"{weights.parent.name}/tiny",
        f"{tmp_path.name}/tiny",
    ]
    assert document["results"][1]["psnr"] == document["results"][2]["psnr"]
    assert document["notes"] == [
        f"{link}: the same weights as {other}, scored once",
        f"{weights}: the same weights as {weights}, scored once",
    ]


def test_a_model_is_left_out_where_it_does_not_fit_also_when_no_scale_is_named(
    root: Path, weights: Path, weights_x3: Path, bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    bench(root, "--set", "Mixed", "--model", weights, "--model", weights_x3, "--json", path)
    document = json.loads(path.read_text())
    found = [(each["scale"], each["model"]) for each in document["results"]]
    assert found == [(2, BICUBIC), (2, "tiny"), (3, BICUBIC), (3, "tiny_x3")]
    assert document["notes"] == [
        f"{weights}: only x2, left out at x3",
        f"{weights_x3}: only x3, left out at x2",
    ]


def test_several_precisions_side_by_side(root: Path, weights: Path, bench: Bench, tmp_path: Path) -> None:
    """Each model in each precision that it has; what it has not is said."""
    path = tmp_path / "scores.json"
    words = ("--model", "edsr_small_x2", "--model", weights, "--precision", "float32", "bfloat16", "int8")
    bench(root, "--set", "Mixed", *words, "--json", path)
    document = json.loads(path.read_text())
    found = [(each["model"], each["precision"]) for each in document["results"]]
    assert found == [
        (BICUBIC, None),
        ("edsr_small_x2", "float32"),
        ("edsr_small_x2, bfloat16", "bfloat16"),
        ("edsr_small_x2_int8", "int8"),
        ("tiny", "float32"),
        ("tiny, bfloat16", "bfloat16"),
    ]
    (note,) = document["notes"]
    assert note.startswith(f"left out: {weights} is in float32; quantise it")
    by_model = {each["model"]: each["psnr"] for each in document["results"]}
    for other in ("edsr_small_x2, bfloat16", "edsr_small_x2_int8"):
        assert by_model[other] == pytest.approx(by_model["edsr_small_x2"], abs=0.1)
        assert by_model[other] != by_model["edsr_small_x2"]


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
    result = json.loads(path.read_text())["results"][1]
    assert result["precision"] == "int8"
    assert result["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    with pytest.raises(CheckpointError, match="is quantised to int8"):
        bench(root, "--set", "Mixed", "--model", file, "--precision", "float32")
