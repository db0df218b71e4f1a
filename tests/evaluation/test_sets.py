"""Finding and reading the pictures of a set, and the one line that says what is wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from addersr.errors import DataError, ImageError
from addersr.evaluation.protocol import PROTOCOLS
from addersr.evaluation.sets import PictureFiles, find_pictures, find_sets, load_pair, sizes
from addersr.images import files
from addersr.images.resize import imresize

FLOAT_Y, SRCNN = PROTOCOLS["ycbcr-float"], PROTOCOLS["srcnn"]


def store(path: Path, *shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sets; one has LR pictures for x2."""
    for name in ("b.png", "a.bmp"):
        store(tmp_path / "Set2" / "HR" / name, 31, 40, 3)
        store(tmp_path / "Set2" / "LR_bicubic" / "X2" / f"{Path(name).stem}x2.png", 15, 20, 3, seed=1)
    store(tmp_path / "Other" / "HR" / "c.PNG", 30, 30)
    return tmp_path


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_pictures_come_in_the_order_of_their_names(root: Path) -> None:
    for junk in ("notes.txt", "._b.png"):
        (root / "Set2" / "HR" / junk).write_bytes(b"junk")
    hr, lr = root / "Set2" / "HR", root / "Set2" / "LR_bicubic" / "X2"
    assert find_pictures(root, "Set2", 2) == [
        PictureFiles(hr / "a.bmp", lr / "ax2.png"),
        PictureFiles(hr / "b.png", lr / "bx2.png"),
    ]


def test_without_a_folder_for_the_scale_lr_is_made(root: Path) -> None:
    pictures = find_pictures(root, "Set2", 3)
    assert [picture.lr for picture in pictures] == [None, None]
    pair = load_pair(pictures[0], FLOAT_Y, 3)
    np.testing.assert_array_equal(pair.lr, imresize(np.array(Image.open(pictures[0].hr))[:30, :39], 1 / 3))


def test_the_sets_lr_is_read_unless_the_protocol_wants_it_unquantised(root: Path) -> None:
    picture = find_pictures(root, "Set2", 2)[0]
    assert picture.lr is not None
    np.testing.assert_array_equal(load_pair(picture, FLOAT_Y, 2).lr, np.array(Image.open(picture.lr)))
    assert load_pair(picture, SRCNN, 2).lr.dtype == np.float64


def test_a_file_of_one_channel_is_grey(root: Path) -> None:
    grey = load_pair(find_pictures(root, "Other", 2)[0], FLOAT_Y, 2)
    assert grey.grey
    assert grey.hr.shape == (30, 30, 3)
    assert not load_pair(find_pictures(root, "Set2", 2)[0], FLOAT_Y, 2).grey


def test_any_folder_of_pictures_is_a_set_whose_lr_is_made(root: Path, tmp_path: Path) -> None:
    holiday = tmp_path / "elsewhere" / "holiday"
    for name in ("z.png", "y.jpg"):
        store(holiday / name, 30, 40, 3)
    store(holiday / "LR_bicubic" / "X2" / "zx2.png", 15, 20, 3)
    expected = [PictureFiles(holiday / "y.jpg", None), PictureFiles(holiday / "z.png", None)]
    assert find_pictures(root, str(holiday), 2) == expected
    assert find_pictures(tmp_path / "elsewhere", "holiday", 2) == expected
    assert find_pictures(root / "nowhere", str(holiday), 2) == expected


def test_a_set_may_be_named_by_its_path_and_comes_before_a_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_pictures(root / "Other", str(root / "Set2"), 2) == find_pictures(root, "Set2", 2)
    monkeypatch.chdir(root)
    store(root / "plain" / "Set2" / "p.png", 30, 40, 3)
    assert find_pictures(root / "plain", "Set2", 2)[0].lr is not None


def test_a_missing_folder(root: Path) -> None:
    with pytest.raises(DataError) as error:
        find_pictures(root / "nowhere", "Set2", 2)
    assert f"no such folder: {root / 'nowhere'}" in one_line(error)


def test_an_unknown_set_and_the_known_ones(root: Path) -> None:
    with pytest.raises(DataError) as error:
        find_pictures(root, "Set5", 2)
    assert "no set Set5" in one_line(error)
    assert str(error.value).endswith("it has Other, Set2")
    with pytest.raises(DataError, match="it has none"):
        find_pictures(root / "Set2", "Set5", 2)


def test_names_that_the_system_refuses(root: Path) -> None:
    for place, name in ((root / ("x" * 300), "Set2"), (root, "x" * 300)):
        with pytest.raises(DataError) as error:
            find_pictures(place, name, 2)
        assert "File name too long" in one_line(error)


def test_an_empty_set(root: Path) -> None:
    (root / "Empty" / "HR").mkdir(parents=True)
    with pytest.raises(DataError) as error:
        find_pictures(root, "Empty", 2)
    assert "no pictures in" in one_line(error)


def test_a_missing_and_a_doubled_lr_picture(root: Path) -> None:
    lr = root / "Set2" / "LR_bicubic" / "X2" / "bx2.png"
    store(lr.with_suffix(".bmp"), 15, 20, 3)
    with pytest.raises(DataError, match=r"one picture bx2\.\* for b\.png, it has 2"):
        find_pictures(root, "Set2", 2)
    lr.unlink()
    lr.with_suffix(".bmp").unlink()
    with pytest.raises(DataError) as error:
        find_pictures(root, "Set2", 2)
    assert "one picture bx2.* for b.png, it has 0" in one_line(error)


def test_an_lr_picture_of_another_size_is_named(root: Path) -> None:
    picture = find_pictures(root, "Set2", 2)[0]
    assert picture.lr is not None
    store(picture.lr, 16, 20, 3)
    with pytest.raises(DataError) as error:
        load_pair(picture, FLOAT_Y, 2)
    assert one_line(error) == f"{picture.lr}: LR must be 20x15 pixels for HR of 40x30 at x2, got 20x16"


def test_an_hr_picture_that_is_too_small_is_named(root: Path) -> None:
    store(root / "Small" / "HR" / "s.png", 12, 40, 3)
    with pytest.raises(DataError) as error:
        load_pair(find_pictures(root, "Small", 2)[0], FLOAT_Y, 2)
    assert one_line(error).startswith(f"{root / 'Small' / 'HR' / 's.png'}: HR must be at least 16x16")


def test_the_file_that_is_too_small_is_named_also_where_there_is_lr(root: Path) -> None:
    picture = find_pictures(root, "Set2", 2)[0]
    store(picture.hr, 12, 40, 3)
    with pytest.raises(DataError) as error:
        load_pair(picture, FLOAT_Y, 2)
    assert one_line(error).startswith(f"{picture.hr}: HR must be at least")


def test_16_bits_are_refused(root: Path) -> None:
    path = root / "Deep" / "HR" / "d.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((30, 30), 40000, np.uint16)).save(path)
    with pytest.raises(DataError) as error:
        load_pair(find_pictures(root, "Deep", 2)[0], FLOAT_Y, 2)
    assert one_line(error).startswith(f"{path}: 16 bits")


@pytest.mark.parametrize("name", ["t.png", "t.jpg", "t.webp", "t.tif", "t.bmp"])
def test_sizes_are_those_of_what_is_read(root: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned, where the format says so
    path = root / "Kinds" / name
    path.parent.mkdir()
    Image.new("RGB", (40, 30)).save(path, **({} if name.endswith("bmp") else {"exif": exif}))
    sets = find_sets(root, ["Kinds", "Set2"], [2, 3], [])
    hr = {picture.hr for pictures in sets[2].values() for picture in pictures}
    found = sizes(sets, FLOAT_Y)
    assert found == {path: files.read(path).pixels.shape[:2] for path in hr}


def test_sizes_of_lr_are_looked_at_where_it_is_used(root: Path) -> None:
    picture = find_pictures(root, "Set2", 2)[0]
    assert picture.lr is not None
    store(picture.lr, 16, 20, 3)
    sets = find_sets(root, ["Set2"], [2], [])
    with pytest.raises(DataError) as error:
        sizes(sets, FLOAT_Y)
    assert one_line(error) == f"{picture.lr}: LR must be 20x15 pixels for HR of 40x30 at x2, got 20x16"
    sizes(sets, SRCNN)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "moving.gif", "pages.tif"])
def test_what_no_protocol_takes_is_told_by_its_size(root: Path, name: str) -> None:
    path = root / "Odd" / "HR" / name
    path.parent.mkdir(parents=True)
    if name.startswith("deep"):
        Image.fromarray(np.full((30, 30), 40000, np.uint16)).save(path)
    else:
        frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises((DataError, ImageError), match=r"16 bits|animation|TIFF of 2 pages") as error:
        sizes(find_sets(root, ["Odd"], [2], []), FLOAT_Y)
    assert one_line(error).startswith(f"{path}: ")


def test_a_file_that_is_no_picture(root: Path) -> None:
    path = root / "Set2" / "HR" / "a.bmp"
    path.write_text("not a picture")
    with pytest.raises(ImageError, match=r"a\.bmp"):
        load_pair(find_pictures(root, "Set2", 2)[0], FLOAT_Y, 2)
