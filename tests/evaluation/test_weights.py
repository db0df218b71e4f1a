"""Which weights a word stands for, and the labels that tell files apart."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from addersr import checkpoint
from addersr.evaluation.weights import labels, named


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name in ("net_x2", "net_x2_int8", "net_x4", "other_x3"):
        (folder / f"{name}.safetensors").touch()
    monkeypatch.setattr(checkpoint, "SHIPPED", folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("net_x2", ["net_x2"]),
        ("net_x2_int8", ["net_x2_int8"]),
        ("net", ["net_x2", "net_x4"]),
        ("net_int8", ["net_x2_int8"]),
        ("other", ["other_x3"]),
        ("missing", []),
        ("net_x3", []),
        ("x" * 5000, []),
    ],
)
def test_names(shipped: Path, word: str, names: list[str]) -> None:
    assert named(word) == names


def test_a_file_comes_after_a_name_and_before_a_name_without_its_scale(shipped: Path) -> None:
    for name in ("net", "net_x2", "file.bin"):
        (shipped / name).touch()
    assert [named(word) for word in ("net", "net_x2", "file.bin")] == [["net"], ["net_x2"], ["file.bin"]]
    (shipped / "folder").mkdir()
    assert named("folder") == []


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/a/x.safetensors"], ["x"]),
        (["/a/x.safetensors", "/a/y.safetensors"], ["x", "y"]),
        (["/a/x.safetensors", "/b/x.safetensors", "/b/y.safetensors"], ["a/x", "b/x", "y"]),
        (["/1/run/x.safetensors", "/2/run/x.safetensors"], ["1/run/x", "2/run/x"]),
        (["/x.safetensors", "/a/x.safetensors"], ["/x", "a/x"]),
        (["/a/x.safetensors", "/a/x.bin"], ["x.safetensors", "x.bin"]),
        (["/a/x.b", "/a/x.c", "/a/x.b.safetensors"], ["x.b", "x.c", "x.b.safetensors"]),
        (["/a/bicubic.safetensors"], ["a/bicubic"]),
        ([], []),
    ],
)
def test_a_label_is_the_shortest_end_of_a_path_that_no_other_has(
    paths: Sequence[str], expected: list[str]
) -> None:
    assert labels([Path(path) for path in paths], taken=["bicubic"]) == expected
