"""`addersr.upscale`: every kind of picture to the same kind, with the numbers of the command line."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import addersr
from addersr import checkpoint
from addersr.errors import CheckpointError
from addersr.images.picture import Picture
from addersr.images.profiles import srgb_profile
from addersr.inference import api
from addersr.inference.enlarge import enlarge
from addersr.inference.upscaler import Upscaler


@pytest.fixture
def model(weights):
    return weights[2]


@pytest.fixture
def upscaler(model):
    return Upscaler(checkpoint.load(model).model)


def noise(*shape, dtype=np.uint8):
    if np.issubdtype(dtype, np.floating):
        return np.random.default_rng(0).random(shape).astype(dtype)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


# NumPy arrays.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 1), (9, 12, 2), (9, 12, 3), (9, 12, 4)])
@pytest.mark.parametrize(("scale", "size"), [(2, (18, 24)), (1.5, (14, 18)), (3, (27, 36)), (0.5, (5, 6))])
def test_shape_and_type_stay(model, dtype, shape, scale, size):
    result = addersr.upscale(noise(*shape, dtype=dtype), scale, model)
    assert (result.shape, result.dtype) == ((*size, *shape[2:]), dtype)
    assert result.flags.c_contiguous


@pytest.mark.parametrize("scale", [2, 3])
def test_integers_are_as_the_command_has_them(model, upscaler, scale):
    pixels, alpha = noise(9, 12, 3, dtype=np.uint16), noise(9, 12, dtype=np.uint16)
    expected = enlarge(upscaler, Picture(pixels, alpha), (9 * scale, 12 * scale))
    result = addersr.upscale(np.dstack([pixels, alpha]), scale, model)
    assert np.array_equal(result, np.dstack([expected.pixels, expected.alpha]))


def test_floating_point_is_not_rounded_to_bits(model, upscaler):
    picture = noise(9, 12, 3)
    exact = upscaler.upscale_tensor(torch.from_numpy(picture / np.float32(255)).permute(2, 0, 1)[None])
    result = addersr.upscale(picture / 255, 2, model)
    np.testing.assert_allclose(result, exact[0].permute(1, 2, 0).numpy(), atol=1e-6)
    assert np.abs(result * 255 - addersr.upscale(picture, 2, model)).max() <= 0.51


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_an_array_that_is_only_to_be_read(model, dtype):
    """Warnings are errors here."""
    picture = noise(9, 12, 3, dtype=dtype)
    expected = addersr.upscale(picture, 2, model)
    picture.flags.writeable = False
    assert np.array_equal(addersr.upscale(picture, 2, model), expected)


def test_grey_is_the_luma_of_three_equal_channels(model):
    grey = noise(9, 12)
    colour = addersr.upscale(np.repeat(grey[..., None], 3, axis=2), 2, model)
    assert np.abs(addersr.upscale(grey, 2, model) - colour @ [0.299, 0.587, 0.114]).max() <= 0.51


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_colour_of_what_is_hidden_does_not_show(model, dtype):
    most = 255 if dtype == np.uint8 else 1
    picture = np.full((9, 12, 4), most * 0.75, dtype)
    picture[..., 3] = most
    other = picture.copy()
    picture[:, 6:, 3] = other[:, 6:, 3] = 0
    other[:, 6:, :3] = 0
    assert np.array_equal(addersr.upscale(picture, 1.5, model), addersr.upscale(other, 1.5, model))


@pytest.mark.parametrize("array", [noise(4, 5, 3)[::-1, ::-1], noise(5, 4, 3).transpose(1, 0, 2)])
def test_any_layout_in_memory(model, array):
    expected = addersr.upscale(np.ascontiguousarray(array), 2, model)
    assert np.array_equal(addersr.upscale(array, 2, model), expected)


@pytest.mark.parametrize("dtype", ["u2", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", "<>")
def test_any_order_of_bytes(model, dtype, order):
    array = noise(9, 12, 3, dtype=np.dtype(dtype))
    result = addersr.upscale(array.astype(order + dtype), 2, model)
    assert result.dtype == np.dtype(order + dtype)
    assert np.array_equal(result, addersr.upscale(array, 2, model))


@pytest.mark.parametrize("scale", [1, 1.5, 2])
def test_what_overshoots_is_clipped(model, scale):
    array = noise(9, 12, 4, dtype=np.float32) * 2 - 0.5
    expected = addersr.upscale(array.clip(0, 1), scale, model)
    assert np.array_equal(addersr.upscale(array, scale, model), expected)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    assert torch.equal(
        addersr.upscale(tensor, scale, model), addersr.upscale(tensor.clamp(0, 1), scale, model)
    )


# Tensors.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 9, 12), (2, 4, 9, 12), (2, 2, 9, 12)])
@pytest.mark.parametrize(("scale", "size"), [(2, (18, 24)), (1.5, (14, 18))])
def test_tensors_stay_tensors(model, dtype, shape, scale, size):
    result = addersr.upscale(torch.rand(shape).to(dtype), scale, model)
    assert (tuple(result.shape), result.dtype) == ((*shape[:-2], *size), dtype)
    assert not result.requires_grad and result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_tensor_has_the_array_s_numbers(model, channels):
    array = noise(9, 12, channels, dtype=np.float32)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for scale in (2, 1.5):
        result = addersr.upscale(tensor, scale, model).permute(1, 2, 0)
        np.testing.assert_allclose(result, addersr.upscale(array, scale, model), atol=1e-6)


# PIL pictures.


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        *((m, m) for m in ("L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV", "I;16")),
        ("CMYK", "RGB"),
        ("1", "L"),
        ("P", "RGB"),
        ("PA", "RGBA"),
        ("I;16B", "I;16"),
    ],
)
def test_modes(model, mode, expected):
    picture = Image.new(mode, (12, 9))
    result = addersr.upscale(picture, 1.5, model)
    assert (result.mode, result.size) == (expected, (18, 14))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_a_pil_picture_has_the_array_s_numbers(model, mode):
    dtype = np.uint16 if mode == "I;16" else np.uint8
    array = (
        noise(9, 12, len(mode), dtype=dtype)
        if len(mode) in (2, 3, 4) and mode != "I;16"
        else noise(9, 12, dtype=dtype)
    )
    picture = Image.fromarray(array)
    assert picture.mode == mode
    assert np.array_equal(np.asarray(addersr.upscale(picture, 2, model)), addersr.upscale(array, 2, model))


def test_palettes_keep_their_transparency(model):
    picture = Image.new("P", (12, 9))
    picture.putpalette([200, 100, 50, 0, 0, 0])
    picture.info["transparency"] = 1
    picture.paste(1, (0, 0, 6, 9))
    result = addersr.upscale(picture, 2, model)
    assert result.mode == "RGBA" and result.getextrema()[3] == (0, 255)


@pytest.mark.parametrize(("mode", "clear", "expected"), [("RGB", (9, 9, 9), "RGBA"), ("L", 9, "LA")])
def test_one_colour_that_is_transparent_becomes_alpha(model, mode, clear, expected):
    picture = Image.new(mode, (12, 9), "white")
    picture.paste(clear, (0, 0, 6, 9))
    picture.info["transparency"] = clear
    result = addersr.upscale(picture, 2, model)
    assert result.mode == expected and result.getextrema()[-1] == (0, 255)


@pytest.mark.parametrize("profile", [None, b"no profile"])
def test_cmyk_becomes_rgb_without_its_profile(model, profile):
    picture = Image.new("CMYK", (12, 9), (0, 0, 0, 200))
    if profile:
        picture.info["icc_profile"] = profile
    result = addersr.upscale(picture, 2, model)
    expected = addersr.upscale(picture.convert("RGB"), 2, model)
    assert np.array_equal(np.asarray(result), np.asarray(expected)) and "icc_profile" not in result.info


def test_cmyk_with_a_profile_becomes_srgb(model, monkeypatch):
    monkeypatch.setattr(api, "through_profile", lambda image, profile: Image.new("RGB", image.size, "red"))
    result = addersr.upscale(Image.new("CMYK", (12, 9)), 1, model)
    assert result.getpixel((0, 0)) == (255, 0, 0) and result.info["icc_profile"] == srgb_profile()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_portrait_photo_is_saved_upright_as_the_readme_does_it(model, tmp_path, format):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    profile = srgb_profile()
    Image.new("RGB", (12, 9)).save(tmp_path / "a.jpg", exif=exif, icc_profile=profile)
    photo = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    larger = addersr.upscale(photo, 2, model)
    larger.save(tmp_path / "b", format, exif=larger.getexif(), icc_profile=larger.info.get("icc_profile"))
    with Image.open(tmp_path / "b") as saved:
        assert (saved.size, saved.info["icc_profile"]) == ((18, 24), profile)
        assert saved.getexif()[0x010F] == "Camera" and saved.getexif().get(0x0112, 1) == 1
        assert ImageOps.exif_transpose(saved).size == (18, 24)


@pytest.mark.parametrize(
    ("format", "kept"), [("JPEG", False), ("WEBP", False), ("PNG", True), ("TIFF", True)]
)
def test_what_pillow_saves_unasked_is_what_the_docstring_says(model, tmp_path, format, kept):
    picture = Image.new("RGB", (12, 9))
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    picture.info = {"exif": exif.tobytes(), "icc_profile": srgb_profile(), "xmp": b"<xmp/>"}
    addersr.upscale(picture, 2, model).save(tmp_path / "b", format)
    with Image.open(tmp_path / "b") as saved:
        assert ("icc_profile" in saved.info) == kept
        assert "xmp" not in saved.info and 0x010F not in saved.getexif()


def test_profile_and_exif_are_carried_along(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x0100] = 6, 12
    Image.new("RGB", (12, 9)).save(tmp_path / "a.jpg", exif=exif, icc_profile=b"profile")
    with Image.open(tmp_path / "a.jpg") as picture:
        result = addersr.upscale(picture, 2, model)
    assert result.info["icc_profile"] == b"profile"
    assert dict(result.getexif()) == {0x0112: 6, 0x0100: 24}
    result.save(tmp_path / "b.jpg", exif=result.info["exif"])


# Refused.


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("photo.jpg", TypeError, "a PIL picture, a NumPy array or a torch tensor, got str"),
        (noise(4, 4).astype(np.int32), TypeError, "got int32"),
        (noise(4, 4) > 3, TypeError, "got bool"),
        (noise(4, 4, 5), ValueError, r"got \(4, 4, 5\)"),
        (noise(0, 4, 3), ValueError, r"got \(0, 4, 3\)"),
        (noise(4), ValueError, r"got \(4,\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), TypeError, "got torch.uint8; divide"),
        (torch.zeros(4, 4), ValueError, r"got \(4, 4\)"),
        (torch.zeros(5, 4, 4), ValueError, r"got \(5, 4, 4\)"),
        (torch.zeros(3, 4, 4).to(torch.float8_e4m3fn), TypeError, "or float64 .* got torch.float8_e4m3fn"),
        (torch.zeros(3, 4, 4).to_sparse(), TypeError, "got torch.sparse_coo; make it a plain tensor"),
        (torch.zeros(3, 4, 4, device="meta"), TypeError, "got a meta tensor; make it a plain tensor"),
        (noise(4, 4).astype(np.float32) + 1, ValueError, r"in \[0, 1\], got .* to 2\d\d; divide"),
        (np.full((4, 4), -0.6), ValueError, r"in \[0, 1\], got -0\.6 to -0\.6"),
        (np.array([[0.5, np.nan]]), ValueError, "got nan to nan"),
        (np.array([[0.5, np.inf]], np.float16), ValueError, "got 0.5 to inf"),
        (np.array([[0.5, 1e300]]), ValueError, r"got 0.5 to 1e\+300"),
        (torch.tensor([[[0.5, float("nan")]]]), ValueError, "got nan to nan"),
        (torch.full((2, 1, 4, 4), 255.0, dtype=torch.bfloat16), ValueError, "got 255 to 255"),
        (Image.new("F", (4, 4)), TypeError, "mode F has no fixed range"),
        (Image.new("I", (4, 4)), TypeError, "mode I has no fixed range"),
    ],
    ids=str,
)
def test_what_is_no_picture(model, image, error, message):
    with pytest.raises(error, match=message):
        addersr.upscale(image, 2, model)


@pytest.mark.parametrize("scale", [0, -2, float("nan"), float("inf")])
def test_a_scale_that_is_none(model, scale):
    with pytest.raises(ValueError, match="scale must be above 0"):
        addersr.upscale(noise(4, 4), scale, model)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"scale": "2"}, "scale must be a number, got '2'"),
        ({"tile": "x"}, "tile must be a whole number, .* got 'x'"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(model, words, message):
    with pytest.raises(TypeError, match=message):
        addersr.upscale(noise(4, 4), model=model, **words)


@pytest.mark.parametrize("precision", ["fp16", "", None, 16])
def test_a_precision_that_is_none(model, precision):
    with pytest.raises(ValueError, match=f"precision must be one of auto, .*, int8, got {precision!r}"):
        addersr.upscale(noise(4, 4), 2, model, precision=precision)


def test_unknown_weights():
    with pytest.raises(CheckpointError, match="no weights are called 'nonsense'"):
        addersr.upscale(noise(4, 4), 2, "nonsense")


# The network.


def test_it_is_loaded_once_for_each_setting_and_version(tmp_path, busy, monkeypatch):
    loads, load = [], checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda *args, **named: loads.append(args) or load(*args, **named))
    api._upscaler.cache_clear()
    path = tmp_path / "mine.safetensors"
    checkpoint.save(path, busy("edsr_tiny_x2"), {})
    picture = noise(6, 6, 3)
    first = addersr.upscale(picture, 2, path)
    addersr.upscale(picture, 3, str(path))
    assert len(loads) == 1
    ensemble = addersr.upscale(picture, 2, path, self_ensemble=True)
    assert len(loads) == 2 and not np.array_equal(first, ensemble)
    checkpoint.save(path, busy("edsr_tiny_x2", blocks=1), {})
    assert not np.array_equal(addersr.upscale(picture, 2, path), first)
    assert len(loads) == 3


def test_shipped_weights_are_the_default():
    assert addersr.upscale(noise(6, 8, 3)).shape == (12, 16, 3)


def test_type_checkers_are_told_of_its_types():
    assert files("addersr").joinpath("py.typed").is_file()


def test_it_is_named_and_documented():
    assert "upscale" in dir(addersr) and "(H, W, C)" in addersr.upscale.__doc__
    with pytest.raises(AttributeError, match="no attribute 'downscale'"):
        addersr.downscale  # noqa: B018
