import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from addersr.atomic import PREFIX
from addersr.data import cache
from addersr.data.cache import Source, build
from addersr.errors import DataError, ImageError
from addersr.images import files
from addersr.images.resize import imresize, modcrop


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_hr_is_the_modcropped_picture_and_lr_its_bicubic(tmp_path, make_pictures, scale):
    paths = make_pictures("HR", count=2, height=25, width=31)
    pairs = build([Source(path.stem, path) for path in paths], scale, tmp_path / "cache")
    for path, pair in zip(paths, pairs, strict=True):
        lr, hr = pair.load()
        expected = modcrop(read(path), scale)
        np.testing.assert_array_equal(hr, expected)
        np.testing.assert_array_equal(lr, imresize(expected, 1 / scale))
        assert pair.shape() == tuple(lr.shape[:2]) == (25 // scale, 31 // scale)


def test_a_second_build_decodes_nothing(tmp_path, make_pictures, monkeypatch):
    sources = [Source(path.stem, path) for path in make_pictures("HR")]
    first = build(sources, 2, tmp_path / "cache")
    monkeypatch.setattr(files, "read", lambda path: pytest.fail(f"{path} was decoded again"))
    assert build(sources, 2, tmp_path / "cache") == first


def test_a_changed_picture_is_decoded_again(tmp_path, make_pictures):
    path = make_pictures("HR", count=1)[0]
    (before,) = build([Source("a", path)], 2, tmp_path / "cache")
    Image.fromarray(255 - read(path)).save(path)
    os.utime(path, ns=(1, 1))
    (after,) = build([Source("a", path)], 2, tmp_path / "cache")
    np.testing.assert_array_equal(after.load()[1], read(path))
    assert not torch.equal(before.load()[1], after.load()[1])


def test_pictures_of_one_name_in_two_folders_are_kept_apart(tmp_path, make_pictures):
    a, b = make_pictures("a", count=1)[0], make_pictures("b", count=1, height=40)[0]
    pairs = build([Source("x", a), Source("x", b)], 2, tmp_path / "cache")
    assert [pair.load()[1].shape[0] for pair in pairs] == [24, 40]


DAMAGES = {
    "cut": lambda whole: whole[:-1],
    "emptied": lambda whole: b"",
    "other": lambda whole: b"x" * len(whole),
    "header that is no literal": lambda whole: whole.replace(b"'shape': (", b"'shape': [", 1),
    "header of another type": lambda whole: whole.replace(b"'descr'", b"b'escr'", 1),
    "header of a deep literal": lambda whole: whole[:10] + b"(" * 118 + whole[128:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(tmp_path, make_pictures, damage):
    path = make_pictures("HR", count=1)[0]
    (pair,) = build([Source("a", path)], 2, tmp_path / "cache")
    whole = pair.hr.read_bytes()
    damaged = DAMAGES[damage](whole)
    assert damaged != whole
    pair.hr.write_bytes(damaged)
    (pair,) = build([Source("a", path)], 2, tmp_path / "cache")
    np.testing.assert_array_equal(pair.load()[1], read(path))


def test_names_of_any_bytes(tmp_path, make_pictures):
    path = make_pictures("HR", count=1)[0]
    strange = path.rename(path.with_name(os.fsdecode(b"\xff.png")))
    (pair,) = build([Source("a", strange)], 2, tmp_path / "cache")
    np.testing.assert_array_equal(pair.load()[1], read(strange))


def test_two_builds_at_once_leave_one_whole_cache(tmp_path, make_pictures):
    sources = [Source(path.stem, path) for path in make_pictures("HR", count=6)]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(build, sources, 2, tmp_path / "cache", 2) for _ in range(2)]
        first, second = (job.result() for job in jobs)
    assert first == second
    for source, pair in zip(sources, first, strict=True):
        np.testing.assert_array_equal(pair.load()[1], read(source.hr))
    assert len(list((tmp_path / "cache").iterdir())) == 12  # and no temporary file


FORK = multiprocessing.get_context("fork")  # quick: torch is loaded already


def fill(paths: list[Path], folder: Path, barrier, results) -> None:
    """What a process does that starts together with others."""
    decoded, decode = [], cache._decode

    def counted(path: Path) -> np.ndarray:
        decoded.append(path)
        time.sleep(0.02)
        return decode(path)

    cache._decode = counted
    barrier.wait()
    pairs = build([Source(path.stem, path) for path in paths], 2, folder / "cache", workers=2)
    results.put((len(decoded), pairs))


def get_stuck(paths: list[Path], folder: Path, reached) -> None:
    """What a process does that is killed with an entry half written."""
    save = cache._save

    def stop_before_the_last(path: Path, pixels: np.ndarray) -> None:
        if len(list((folder / "cache").glob("*.npy"))) < 6:
            return save(path, pixels)
        with cache.replacing(path):
            reached.set()
            time.sleep(100)

    cache._save = stop_before_the_last
    build([Source(path.stem, path) for path in paths], 2, folder / "cache", workers=1)


def assert_whole_cache(folder: Path, paths: list[Path]) -> None:
    """All is right once it is complete, and there is no other file."""
    pairs = build([Source(path.stem, path) for path in paths], 2, folder / "cache")
    for path, pair in zip(paths, pairs, strict=True):
        np.testing.assert_array_equal(pair.load()[1], read(path))
        np.testing.assert_array_equal(pair.load()[0], imresize(read(path), 1 / 2))
    assert {path for pair in pairs for path in (pair.lr, pair.hr)} == set((folder / "cache").iterdir())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_processes_that_start_at_once_fill_a_cache_once(tmp_path, make_pictures):
    paths = make_pictures("HR", count=12)
    barrier, results = FORK.Barrier(2), FORK.SimpleQueue()
    processes = [FORK.Process(target=fill, args=(paths, tmp_path, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    (count, pairs), (other_count, other_pairs) = results.get(), results.get()
    assert count + other_count == 12  # no picture was decoded twice
    assert pairs == other_pairs
    assert_whole_cache(tmp_path, paths)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_killed_process_leaves_is_completed_and_cleared(tmp_path, make_pictures):
    paths, reached = make_pictures("HR", count=5), FORK.Event()
    process = FORK.Process(target=get_stuck, args=(paths, tmp_path, reached))
    process.start()
    assert reached.wait(300)
    process.kill()
    process.join()
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    assert ".lock" in left and any(name.startswith(PREFIX) for name in left)
    assert_whole_cache(tmp_path, paths)


def test_a_cache_on_a_read_only_disk_is_used(tmp_path, make_pictures, monkeypatch):
    paths = make_pictures("HR")
    sources = [Source(path.stem, path) for path in paths]
    first = build(sources, 2, tmp_path / "cache")
    monkeypatch.setattr(cache, "locked", lambda *_: pytest.fail("something was written"))
    assert build(sources, 2, tmp_path / "cache") == first


def test_the_hr_entry_serves_all_scales(tmp_path, make_pictures, monkeypatch):
    sources = [Source(path.stem, path) for path in make_pictures("HR")]
    two = build(sources, 2, tmp_path / "cache")
    written = {pair.hr: pair.hr.stat().st_ino for pair in two}
    three = build(sources, 3, tmp_path / "cache")
    assert {pair.hr: pair.hr.stat().st_ino for pair in three} == written
    assert len(list((tmp_path / "cache").iterdir())) == 9


def test_a_file_that_is_no_picture_is_named_and_leaves_nothing_half_written(tmp_path, make_pictures):
    bad = make_pictures("HR", count=1)[0]
    bad.write_text("not a picture")
    with pytest.raises(ImageError, match=bad.name):
        build([Source("a", bad)], 2, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_picture_smaller_than_the_scale_is_named(tmp_path, make_pictures):
    path = make_pictures("HR", count=1, height=1, width=40)[0]
    with pytest.raises(DataError, match=rf"{path.name} is 40x1 pixels, too small for x2") as caught:
        build([Source("a", path)], 2, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_picture_that_has_gone_is_not_the_caches_fault(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png cannot be read") as caught:
        build([Source("a", tmp_path / "gone.png")], 2, tmp_path / "cache")
    assert "cache" not in str(caught.value).replace(str(tmp_path), "")


def test_16_bit_pictures_are_rounded_to_8(tmp_path):
    path = tmp_path / "deep.png"
    deep = np.random.default_rng(0).integers(65536, size=(12, 12, 3), dtype=np.uint16)
    files.write(path, files.Picture(pixels=deep, alpha=None, exif=None, icc_profile=None, xmp=None))
    (pair,) = build([Source("a", path)], 2, tmp_path / "cache")
    np.testing.assert_array_equal(pair.load()[1], np.floor(deep / 257 + 0.5))


def test_a_published_lr_picture_is_used_as_it_is(tmp_path, make_pictures):
    hr = make_pictures("HR", count=1)[0]
    lr = make_pictures("LR", count=1, height=12, width=15)[0]
    (pair,) = build([Source("a", hr, lr)], 2, tmp_path / "cache")
    np.testing.assert_array_equal(pair.load()[0], read(lr))


def test_a_published_lr_picture_of_another_size_is_refused(tmp_path, make_pictures):
    hr = make_pictures("HR", count=1)[0]
    lr = make_pictures("LR", count=1, height=8, width=10)[0]
    with pytest.raises(DataError, match="must be 15x12"):
        build([Source("a", hr, lr)], 2, tmp_path / "cache")


def test_a_cache_that_cannot_be_made_is_a_data_error(tmp_path, make_pictures):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"--data\.cache_dir"):
        build([Source("a", make_pictures("HR", count=1)[0])], 2, tmp_path / "cache")


def test_a_thousand_pictures_need_no_thousand_descriptors(tmp_path, make_pictures):
    (pair,) = build([Source("a", make_pictures("HR", count=1)[0])], 2, tmp_path / "cache")
    before = (
        len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else pytest.skip("needs /proc")
    )
    opened = [pair.load() for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) - before < 5
    assert all(torch.equal(opened[0][0], lr) for lr, _ in opened)
