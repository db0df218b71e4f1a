"""Colour profiles (ICC): which channels one is made for, and pictures taken from one profile to sRGB."""

import io
from functools import cache

from PIL import Image, ImageCms

__all__ = ["profile_space", "srgb_profile", "through_profile", "to_srgb"]


def profile_space(icc_profile: bytes | None) -> bytes | None:
    """The colour space an ICC profile is made for, b"RGB ", b"GRAY", b"CMYK"... (ICC.1, 7.2.6)."""
    return None if icc_profile is None else icc_profile[16:20]


@cache
def srgb_profile() -> bytes:
    """An ICC profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def through_profile(image: Image.Image, icc_profile: bytes | None) -> Image.Image | None:
    """sRGB of an 8-bit picture through its profile; None if it has none, or none that can be used for it."""
    if icc_profile is None:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """The same; where the profile is of no use, Pillow's plain conversion."""
    converted = through_profile(image, icc_profile)
    return image.convert("RGB") if converted is None else converted
