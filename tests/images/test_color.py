"""Y of BT.601: values from the definition, agreement with scikit-image, linearity."""

from typing import Any

import numpy as np
import pytest
from skimage.color import rgb2ycbcr

from addersr.images.color import rgb_to_y


def test_primaries() -> None:
    """The rows of BT.601's matrix, and the ends of its range."""
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)[
        None
    ]
    np.testing.assert_allclose(rgb_to_y(colours), [[16, 235, 81.481, 144.553, 40.966]], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_agrees_with_scikit_image(dtype: Any) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (17, 23, 3)).astype(dtype)
    y = rgb_to_y(rgb)
    assert y.shape == (17, 23)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, rgb2ycbcr(rgb.astype(np.float64) / 255)[..., 0], rtol=1e-13)


def test_grey_is_mapped_linearly_to_the_studio_range() -> None:
    levels = np.arange(256, dtype=np.uint8)
    y = rgb_to_y(np.stack([levels] * 3, axis=-1))
    np.testing.assert_allclose(y, 16 + levels * (219.0 / 255.0), rtol=1e-14)


def test_refuses_what_has_no_three_channels() -> None:
    with pytest.raises(ValueError, match=r"got \(4, 5\)"):
        rgb_to_y(np.zeros((4, 5), np.uint8))
