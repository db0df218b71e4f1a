import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from addersr import cli
from addersr.energy.estimate import estimate
from addersr.errors import UsageError
from addersr.images import files
from addersr.images.files import Animation, Picture
from addersr.images.resize import imresize
from addersr.inference.upscaler import Upscaler
from addersr.page import networks as networks_module
from addersr.page.networks import Networks
from addersr.page.run import MAX_FILES, Order, Refused, Run, Upscaled, order_of


def end(run):
    assert run.wait(60)
    return run.outcomes


def test_both_pictures_and_the_true_file(begin, network, photo):
    (done,) = end(begin(photo))
    pixels = files.read(photo).pixels
    expected = Upscaler(network.upscaler.model)(pixels)
    assert np.array_equal(files.read(done.placed.network).pixels, expected)
    assert np.array_equal(files.read(done.placed.bicubic).pixels, imresize(pixels, 2))
    assert done.placed.download.name == "holiday_x2.jpg"
    assert (done.size, done.result_size) == ((44, 30), (88, 60))
    assert (done.model, done.precision) == ("tiny", "float32")


def sixteen_bits(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    picture = Picture(
        rng.integers(0, 65536, (9, 13, 3), np.uint16),
        alpha=rng.integers(0, 65536, (9, 13), np.uint16),
        xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
        iptc=b"\x1c\x02\x78\x00\x03abc",
    )
    files.write(folder / "deep.png", picture)
    return folder / "deep.png"


def moving(folder: Path) -> Path:
    rng = np.random.default_rng(2)
    frames = tuple(Picture(rng.integers(0, 256, (9, 13, 3), np.uint8)) for _ in range(3))
    files.write(folder / "moving.webp", Animation(frames, (40.0, 80.0, 120.0)), lossless=True)
    return folder / "moving.webp"


@pytest.mark.parametrize("make", [sixteen_bits, moving])
@pytest.mark.parametrize("scale", [2, 3])
def test_the_file_is_what_the_command_writes(begin, weights, tmp_path, make, scale):
    picture = make(tmp_path)
    (done,) = end(begin(picture, scale=scale))
    out = tmp_path / f"command{picture.suffix}"
    assert (
        cli.main(
            ["upscale", str(picture), "-o", str(out), "--model", str(weights), "--scale", str(scale), "-q"]
        )
        == 0
    )
    assert done.placed.download.read_bytes() == out.read_bytes()
    assert done.result_size == (13 * scale, 9 * scale)


def test_a_bad_picture_does_not_stop_the_others(begin, photo, text, tmp_path):
    bad, *good = end(begin(text, photo, sixteen_bits(tmp_path)))
    assert bad == Refused("text.png", bad.reason)
    assert bad.reason.startswith("not a PNG, JPEG, WebP, TIFF, GIF or BMP picture")
    assert str(tmp_path) not in bad.reason
    assert [result.name for result in good] == ["holiday.jpg", "deep.png"]


def test_several_results_are_in_one_archive_under_names_of_their_own(begin, photo, tmp_path):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / photo.name
    twin.write_bytes(photo.read_bytes())
    run = begin(photo, twin)
    names = [outcome.placed.download.name for outcome in end(run)]
    assert names == ["holiday_x2.jpg", "holiday_x2 (2).jpg"]
    with zipfile.ZipFile(run.archive) as archive:
        assert archive.namelist() == names
        for outcome in run.results:
            assert archive.read(outcome.placed.download.name) == outcome.placed.download.read_bytes()


def test_one_result_needs_no_archive(begin, photo, text):
    run = begin(photo, text)
    end(run)
    assert run.archive is None


def test_a_result_that_is_too_large_is_refused(begin, photo):
    (refused,) = end(begin(photo, max_pixels=44 * 30 * 4 - 1))
    assert "44 x 30 is too many pixels" in refused.reason
    (done,) = end(begin(photo, max_pixels=44 * 30 * 4))
    assert isinstance(done, Upscaled)


def test_what_comes_between_has_a_limit_too(begin, tmp_path):
    """The largest on the way to x3, by two passes of x2, is 16 times the picture; at most 4 times the budget."""
    files.write(tmp_path / "thin.png", Picture(np.zeros((1, 100, 3), np.uint8)))
    (done,) = end(begin(tmp_path / "thin.png", scale=3, max_pixels=900))
    assert done.result_size == (300, 3)


def test_there_is_a_limit_on_the_disk(begin, store, photo):
    store.most = -1
    (refused,) = end(begin(photo))
    assert "no more room" in refused.reason


def test_a_name_that_is_too_long_is_cut(begin, photo):
    long = photo.rename(photo.with_name("ä" * 120 + ".jpg"))
    (done,) = end(begin(long))
    assert done.placed.download.name == "ä" * 80 + "_x2.jpg"


def test_energy_counts_passes_views_and_halos(begin, network, weights, store, executor, photo, monkeypatch):
    model = network.upscaler.model
    once = estimate(model, 30, 44)
    (plain,) = end(begin(photo))
    assert plain.energy_mj == pytest.approx(once.mj, rel=1e-2)
    assert plain.twin_energy_mj == pytest.approx(once.twin_mj, rel=1e-2)
    (ensemble,) = end(begin(photo, self_ensemble=True))
    assert ensemble.energy_mj == pytest.approx(8 * plain.energy_mj)
    (twice,) = end(begin(photo, scale=4))
    assert twice.energy_mj == pytest.approx(5 * plain.energy_mj)

    monkeypatch.setattr(networks_module, "_LARGEST_TILE", 22)
    run = Run(Networks([str(weights)], device="cpu"), Order((photo,), "tiny"), store)
    run.start(executor)
    (tiled,) = end(run)
    halo = model.radius
    # Two columns of 22 and two rows of 15, each with a halo on one side of each axis.
    assert tiled.energy_mj == pytest.approx(plain.energy_mj * 4 * (22 + halo) * (15 + halo) / (30 * 44))
    pictures = [files.read(each.placed.network).pixels.astype(int) for each in (tiled, plain)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1  # sums in another order, rounded


def test_stop_ends_at_the_next_call_of_the_network(begin, held, photo):
    run = begin(photo, photo, self_ensemble=True)
    assert held.reached.wait(60)
    run.stop()
    held.go.set()
    assert end(run) == []
    assert held.calls == 1  # of 16
    assert run.stopped
    assert list(run.folder.glob("*.jpg")) == []


def test_stop_keeps_what_is_done(begin, network, executor, photo):
    calls, run = [], begin(photo, photo, photo, photo, start=False)

    def second(_module, _inputs):
        calls.append(1)
        if len(calls) == 3:
            run.stop()

    hook = network.upscaler.model.head.register_forward_pre_hook(second, prepend=True)
    run.start(executor)
    outcomes = end(run)
    hook.remove()
    assert [outcome.name for outcome in outcomes] == ["holiday.jpg"] * 2
    assert run.stopped and run.archive is not None


def test_a_run_that_waits_ends_at_once_when_it_is_stopped(begin, held, photo):
    first, second, third = begin(photo), begin(photo), begin(photo)
    assert held.reached.wait(60)
    second.stop()
    assert second.wait(0) and second.stopped and second.begun is None
    assert held.calls == 1 and not first.ended and not third.ended
    held.go.set()
    assert len(end(first)) == len(end(third)) == 1
    assert first.begun < third.begun and second.outcomes == []


def test_stop_between_the_files_of_a_result(begin, photo, monkeypatch):
    run = begin(photo, start=False)
    whole = files.write

    def write(path, *rest, **options):
        whole(path, *rest, **options)
        run.stop()

    monkeypatch.setattr("addersr.page.results.files.write", write)
    with ThreadPoolExecutor(1) as executor:
        run.start(executor)
        assert end(run) == [] and run.stopped
    assert list(run.folder.glob("*.jpg")) == []


@pytest.mark.parametrize("scale", [2, 2.0])
def test_a_scale_is_a_whole_number_however_it_is_written(scale):
    order = order_of(["a.png"], "tiny", scale, "float32", False)
    assert type(order.scale) is int
    with pytest.raises(UsageError, match=r"got 2\.5"):
        order_of(["a.png"], "tiny", 2.5, "float32", False)


def test_an_error_of_our_own_is_told_and_logged(begin, photo, monkeypatch, capsys):
    monkeypatch.setattr("addersr.page.run.enlarge", lambda *_: 1 / 0)
    (refused,) = end(begin(photo))
    assert "its log says more" in refused.reason
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pictures", "choices", "message"),
    [
        (0, {}, "Choose a picture first"),
        (MAX_FILES + 1, {}, f"at most {MAX_FILES}"),
        (1, {"scale": 5}, "scale must be one of 2, 3, 4, got 5"),
    ],
)
def test_orders_that_are_not_taken(pictures, choices, message):
    with pytest.raises(UsageError, match=message):
        Order((Path("a.png"),) * pictures, "tiny", **choices)
