"""The pictures of `addersr bench --compare`: what is in them, pixel by pixel where it can be said."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from addersr.errors import AdderSRError, DataError
from addersr.evaluation.benchmark import BICUBIC
from addersr.evaluation.compare import find_crop
from addersr.evaluation.figure import ERROR_TOP, Panel, error_colours, error_strip, strip
from addersr.images.tiles import Box

Bench = Callable[..., int]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def holds(canvas: np.ndarray, part: np.ndarray) -> bool:
    """Whether `part` is somewhere in `canvas`, pixel for pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(canvas[..., 0], part.shape[1], axis=1)
    height = part.shape[0]
    rows = (windows == part[0, :, 0]).all(axis=-1)
    for top, left in np.argwhere(rows[: canvas.shape[0] - height + 1]):
        if np.array_equal(canvas[top : top + height, left : left + part.shape[1]], part):
            return True
    return False


def test_a_strip_has_every_panel_enlarged_by_repeated_pixels() -> None:
    crop, panels = (
        Box(3, 35, 7, 71),
        [Panel(noise(32, 64, seed), f"model {seed}", "30.00") for seed in range(3)],
    )
    canvas = strip(noise(90, 120), crop, ("title", "detail"), panels)
    for panel in panels:
        assert holds(canvas, panel.pixels.repeat(4, axis=0).repeat(4, axis=1))
    more = strip(noise(90, 120), crop, ("title", "detail"), [*panels, panels[0]])
    assert more.shape[0] == canvas.shape[0] and more.shape[1] > canvas.shape[1] + 256


def test_a_large_crop_is_not_enlarged() -> None:
    panel = Panel(noise(300, 280), "HR", "")
    assert holds(strip(noise(320, 320), Box(0, 300, 0, 280), ("a", "b"), [panel]), panel.pixels)
    assert holds(error_strip(panel, [], Box(0, 300, 0, 280)), panel.pixels)


def test_a_name_too_long_for_its_panel_is_shortened() -> None:
    crop, pixels = Box(0, 32, 0, 32), noise(32, 32)
    short, long = (strip(pixels, crop, ("", ""), [Panel(pixels, name, "")]) for name in ("x", "x" * 500))
    assert short.shape == long.shape
    outside = np.s_[:, -5:]  # the margin
    np.testing.assert_array_equal(short[outside], long[outside])


def test_error_colours_have_one_scale() -> None:
    colours = error_colours(np.array([[0.0, 1, ERROR_TOP / 2, ERROR_TOP, 3 * ERROR_TOP]]))[0].astype(int)
    assert (np.diff(colours.sum(axis=1))[:3] > 0).all()
    np.testing.assert_array_equal(colours[3], colours[4])


def test_the_crop_is_where_the_difference_is() -> None:
    difference = np.zeros((200, 300))
    difference[120:150, 220:250] = 1
    difference[0, :] = 1000  # not scored
    crop = find_crop(difference, 2)
    assert (crop.height, crop.width) == (48, 48)
    assert crop.top <= 120 and crop.bottom >= 150 and crop.left <= 220 and crop.right >= 250
    assert find_crop(np.ones((30, 40)), 3) == Box(3, 27, 3, 27)
    assert find_crop(np.ones((4000, 3000)), 2).width == 96


def test_compare_writes_two_pictures_of_each_named_one(
    root: Path, weights: Path, bench: Bench, tmp_path: Path
) -> None:
    """The crop of HR and of bicubic are in them as they are; a model more makes them wider."""
    words = ("--set", "Files", "--scale", 2, "--crop", "4,6,20,16", "--compare-pictures", "colour.png")
    bench(root, *words, "--model", BICUBIC, "--compare", tmp_path / "one")
    bench(root, *words, "--model", weights, "--compare", tmp_path / "new" / "two")
    for name in ("Files_x2_colour.png", "Files_x2_colour_error.png"):
        one, two = (np.array(Image.open(tmp_path / place / name)) for place in ("one", "new/two"))
        assert two.shape[1] > one.shape[1] + 200
        hr = np.array(Image.open(root / "Files/HR/colour.png"))[6:22, 4:24]
        assert holds(two, hr.repeat(12, axis=0).repeat(12, axis=1))
    assert len(list((tmp_path / "one").iterdir())) == 2


def test_by_default_the_worst_of_bicubic_are_shown(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for strength in range(5):
        picture = (128 + (noise(40, 40).astype(int) - 128) * (strength + 1) // 6).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "many" / f"{strength}.png")
    bench(tmp_path, "--set", "many", "--model", BICUBIC, "--compare", tmp_path / "out")
    found = sorted(path.stem for path in (tmp_path / "out").iterdir())
    assert found == [f"many_x2_{n}{end}" for n in (2, 3, 4) for end in ("", "_error")]


def test_a_crop_outside_is_refused(root: Path, bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--crop 40,0,20,8 is not inside .*/colour\.png, 50x44 pixels at x2"):
        bench(root, "--set", "Files", "--model", BICUBIC, "--compare", tmp_path / "c", "--crop", "40,0,20,8")
    assert not (tmp_path / "c").exists()


def test_a_crop_need_be_inside_the_named_pictures_alone(root: Path, bench: Bench, tmp_path: Path) -> None:
    shutil.copytree(root / "Mixed", tmp_path / "Two")
    Image.fromarray(noise(90, 90)).save(tmp_path / "Two/HR/large.png")
    words = ("--set", "Two", "--model", BICUBIC, "--compare", tmp_path / "c", "--crop", "60,60,20,20")
    with pytest.raises(DataError, match=r"colour\.png, 50x44 pixels at x2; say by --compare-pictures"):
        bench(tmp_path, *words)
    bench(tmp_path, *words, "--compare-pictures", "large")
    assert len(list((tmp_path / "c").iterdir())) == 2


def test_sets_whose_pictures_would_have_one_name_are_refused(
    root: Path, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--set", root / "Files/HR", root / "Mixed/HR", "--model", BICUBIC, "--compare", tmp_path / "c")
    with pytest.raises(DataError, match="two sets have one name"):
        bench(root, *words)
    assert not (tmp_path / "c").exists() and not capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(
    root: Path, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AdderSRError, match=r"cannot write .*file/x: --compare takes a folder"):
        bench(root, "--set", "Files", "--model", BICUBIC, "--compare", tmp_path / "file" / "x")
    assert capsys.readouterr().out == ""
