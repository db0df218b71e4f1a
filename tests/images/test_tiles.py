import numpy as np
import pytest

from addersr.images.tiles import Box, split

SIZES = [(1, 1), (1, 9), (7, 7), (8, 16), (17, 5), (33, 50)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tile", [1, 3, 8, 100, None])
@pytest.mark.parametrize("halo", [0, 2, 40])
def test_kept_parts_cover_every_pixel_once_and_windows_hold_halo(size, tile, halo):
    height, width = size
    covered = np.zeros(size, int)
    for step in split(height, width, tile, halo):
        covered[step.keep.slices] += 1
        keep, window = step.keep, step.window
        assert tile is None or max(keep.height, keep.width) <= tile
        # As far as the halo asks or as the picture goes, and not further.
        assert (window.top, window.left) == (max(keep.top - halo, 0), max(keep.left - halo, 0))
        assert (window.bottom, window.right) == (
            min(keep.bottom + halo, height),
            min(keep.right + halo, width),
        )
    assert (covered == 1).all()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_pasting_the_kept_parts_rebuilds_the_enlarged_picture(scale):
    picture = np.random.default_rng(0).integers(0, 256, (23, 41, 3))
    enlarged = picture.repeat(scale, 0).repeat(scale, 1)
    result = np.full_like(enlarged, -1)
    for step in split(23, 41, 10, 4):
        part = picture[step.window.slices].repeat(scale, 0).repeat(scale, 1)
        result[step.keep.times(scale).slices] = part[step.inside.times(scale).slices]
    assert np.array_equal(result, enlarged)


def test_tiles_differ_by_a_pixel_at_most():
    sides = {step.keep.width for step in split(1, 101, 100, 5)}
    assert sides == {50, 51}


def test_no_more_tiles_than_needed():
    assert len(split(100, 100, 50, 8)) == 4
    assert len(split(101, 100, 50, 8)) == 6
    assert [step.window for step in split(100, 90, None, 8)] == [Box(0, 100, 0, 90)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 4, 1), "height must be at least 1, got 0"),
        ((5, 0, 4, 1), "width must be at least 1, got 0"),
        ((5, 5, 0, 1), "tile must be at least 1, got 0"),
        ((5, 5, 4, -1), "halo must be at least 0, got -1"),
    ],
)
def test_bad_geometry_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        split(*arguments)
