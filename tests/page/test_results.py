import numpy as np
import pytest

from addersr.images import files
from addersr.images.files import Picture
from addersr.images.resize import imresize
from addersr.page.results import enlarge_bicubic, place


@pytest.mark.parametrize(
    ("name", "size"), [("wide.webp", (1, 9000)), ("long.jpg", (8, 8)), ("odd.xyz", (8, 8))]
)
def test_png_where_the_format_cannot_hold_the_result(tmp_path, name, size):
    xmp = b"<exif:PixelXDimension>8</exif:PixelXDimension>" + b" " * 65600 if name == "long.jpg" else None
    picture = Picture(np.zeros((*size, 3), np.uint8), xmp=xmp)
    placed = place(name, picture, 2, (size[0] * 2, size[1] * 2), tmp_path, set())
    assert placed.download.name == f"{name[:-5] if name == 'wide.webp' else name[:-4]}_x2.png"


def test_a_name_that_differs_in_case_alone_is_taken(tmp_path):
    taken: set[str] = set()
    picture = Picture(np.zeros((2, 2, 3), np.uint8))
    names = [
        place(name, picture, 2, (4, 4), tmp_path, taken).download.name for name in ("a.png", "A.png", "a.png")
    ]
    assert names == ["a_x2.png", "A_x2 (2).png", "a_x2 (3).png"]


def test_bicubic_has_no_hidden_colour_either():
    alpha = np.zeros((20, 20), np.uint8)
    alpha[5:15, 5:15] = 255
    pixels = np.where(alpha[..., None] > 0, np.uint8([200, 180, 90]), np.uint8(0))
    bicubic = enlarge_bicubic(Picture(pixels, alpha), (40, 40))
    assert (bicubic.pixels == [200, 180, 90]).all()
    assert np.array_equal(bicubic.alpha, imresize(alpha, 2))


def test_the_slider_s_pictures_have_no_metadata_and_all_transparency(begin, tmp_path):
    alpha = np.tile(np.arange(20, dtype=np.uint8) * 10, (12, 1))
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    files.write(tmp_path / "a.png", Picture(np.zeros((12, 20, 3), np.uint8), alpha, xmp=xmp))
    run = begin(tmp_path / "a.png")
    assert run.wait(60)
    placed = run.results[0].placed
    for path in (placed.bicubic, placed.network, placed.download):
        assert np.array_equal(files.read(path).alpha, imresize(alpha, 2))
    assert [files.read(p).xmp for p in (placed.bicubic, placed.network)] == [None, None]
    assert files.read(placed.download).xmp is not None
