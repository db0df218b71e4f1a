from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from addersr.data.cache import Source, build
from addersr.data.pairs import (
    EvenSplit,
    LowResolution,
    PatchStream,
    WholePictures,
    distinguish,
    find_pictures,
    hold_out,
)
from addersr.errors import DataError

PATCH = 6


@pytest.fixture
def pairs(tmp_path, make_pictures):
    """HR repeats each LR pixel, so that alignment shows in the values: hr[..., ::2, ::2] is lr."""
    sources = []
    for lr, size in zip(make_pictures("LR", count=3, height=9, width=12), (1, 2, 3), strict=True):
        pixels = np.asarray(Image.open(lr))[: PATCH + size]  # pictures of several sizes
        Image.fromarray(pixels).save(lr)
        hr = tmp_path / f"HR_{lr.name}"
        Image.fromarray(pixels.repeat(2, axis=0).repeat(2, axis=1)).save(hr)
        sources.append(Source(lr.stem, hr, lr))
    return build(sources, 2, tmp_path / "cache")


def stream(pairs, **kwargs):
    return PatchStream(pairs, PATCH, 8, **kwargs)


def equal(a, b):
    return torch.equal(a.lr, b.lr) and torch.equal(a.hr, b.hr)


def test_patches_are_aligned_however_they_are_turned(pairs):
    for number in range(20):
        batch = stream(pairs).batch(number)
        assert torch.equal(batch.hr[..., ::2, ::2], batch.lr)
        assert torch.equal(batch.hr[..., 1::2, 1::2], batch.lr)


def test_batches_have_the_shape_range_and_layout_that_a_step_takes(pairs):
    batch = stream(pairs).batch(0)
    assert batch.lr.shape == (8, 3, PATCH, PATCH) and batch.hr.shape == (8, 3, 2 * PATCH, 2 * PATCH)
    for side in batch:
        assert side.dtype == torch.float32 and type(side) is torch.Tensor
        assert side.is_contiguous(memory_format=torch.channels_last)
        assert 0 <= side.min() < 0.1 and 0.9 < side.max() <= 1
    torch.testing.assert_close((batch.lr * 255).round() / 255, batch.lr, rtol=1e-6, atol=0)


def test_every_crop_in_every_turn_is_seen_and_no_other(pairs):
    possible = set()
    for pair in pairs:
        lr = pair.load()[0].permute(2, 0, 1)
        for top in range(lr.shape[1] - PATCH + 1):
            for left in range(lr.shape[2] - PATCH + 1):
                crop = lr[:, top : top + PATCH, left : left + PATCH]
                for turns in range(4):
                    turned = crop.rot90(turns, (1, 2))
                    possible |= {turned.numpy().tobytes(), turned.flip(2).numpy().tobytes()}
    batches = stream(pairs)
    patches = torch.cat([batches.batch(number).lr for number in range(1000)])
    seen = [patch.numpy().tobytes() for patch in (patches * 255).round().byte()]
    assert len(set(seen) ^ possible) == 0
    counts = np.unique(seen, return_counts=True)[1]  # 8000 draws
    mean = len(seen) / len(possible)
    assert counts.min() > mean - 6 * mean**0.5 and counts.max() < mean + 6 * mean**0.5  # alike likely


def test_a_batch_depends_on_its_number_seed_and_rank_alone(pairs):
    batch = stream(pairs, seed=1, rank=2).batch(7)
    torch.manual_seed(99)
    again = stream(pairs, seed=1, rank=2, start=3)
    again.batch(0)
    assert equal(again.batch(7), batch)
    for other in (
        again.batch(8),
        stream(pairs, seed=2, rank=2).batch(7),
        stream(pairs, seed=1, rank=1).batch(7),
    ):
        assert not equal(other, batch)


def test_a_batch_leaves_the_global_generators_alone(pairs):
    state = torch.get_rng_state()
    stream(pairs).batch(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_deliver_what_the_main_process_would(pairs, workers):
    expected = [stream(pairs).batch(number) for number in range(5, 11)]
    loader = DataLoader(stream(pairs, start=5), batch_size=None, num_workers=workers)
    for batch, wanted in zip(islice(loader, 6), expected, strict=True):
        assert equal(batch, wanted)


def test_too_small_pictures_are_left_out(pairs, tmp_path, make_pictures):
    small = make_pictures("small", count=1, height=4, width=200)[0]
    mixed = [*build([Source("s", small)], 2, tmp_path / "cache"), *pairs]
    assert [pair.name for pair in stream(mixed).pairs] == [pair.name for pair in pairs]
    assert equal(stream(mixed).batch(3), stream(pairs).batch(3))
    with pytest.raises(DataError, match=r"--data\.patch"):
        PatchStream(pairs, 100, 8)


def test_whole_pictures_are_whole(pairs):
    dataset = WholePictures(pairs)
    assert len(dataset) == 3
    lr, hr, name, counts = dataset[1]
    assert name == pairs[1].name and counts
    assert lr.shape == (1, 3, *pairs[1].shape()) and hr.shape[2:] == (2 * lr.shape[2], 2 * lr.shape[3])
    assert torch.equal((lr[0] * 255).round().byte().permute(1, 2, 0), pairs[1].load()[0])


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_processes_have_equal_shares_in_which_each_picture_counts_once(pairs, processes):
    dataset = WholePictures(pairs)
    shares = [
        list(DataLoader(dataset, batch_size=None, sampler=EvenSplit(dataset, processes, rank)))
        for rank in range(processes)
    ]
    assert {len(share) for share in shares} == {-(-len(pairs) // processes)}
    counted = [picture.name for share in shares for picture in share if picture.counts]
    assert sorted(counted) == sorted(pair.name for pair in pairs)


def test_pictures_of_one_name_are_told_apart_in_any_order(tmp_path):
    """By as little as it takes: two data sets whose folders are called alike, one picture in two formats."""
    paths = [
        "A/HR/1.png",
        "B/HR/1.png",
        "A/HR/2.png",
        "C/x/3.png",
        "C/x/3.webp",
        "D/HR/4/5.png",
        "E/HR/4/5.png",
    ]
    sources = [Source(f"{path.parent.name}/{path.stem}", path) for path in map(tmp_path.joinpath, paths)]
    names = ["A/HR/1.png", "B/HR/1.png", "HR/2", "x/3.png", "x/3.webp", "D/HR/4/5.png", "E/HR/4/5.png"]
    assert [source.name for source in distinguish(sources)] == names
    assert [source.name for source in distinguish(sources[::-1])] == names[::-1]
    assert distinguish(sources[2:4]) == sources[2:4]  # which nothing is like
    assert distinguish(sources[:1] * 2) == sources[:1] * 2


def test_lr_pictures_are_read_as_they_are(make_pictures):
    path = make_pictures("LR", count=1)[0]
    lr, name = LowResolution([Source("a", path)])[0]
    np.testing.assert_array_equal((lr[0] * 255).round().permute(1, 2, 0), np.asarray(Image.open(path)))
    assert name == "a"


def test_pictures_are_found_in_all_folders_sorted_by_name(tmp_path, make_pictures):
    make_pictures("b", count=2), make_pictures("a", count=2, suffix=".jpg")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "a" / "folder.png").mkdir()
    found = find_pictures([tmp_path / "b", tmp_path / "a"], 2, "--data.train_dirs")
    assert [source.name for source in found] == ["b/0000", "b/0001", "a/0000", "a/0001"]


def test_a_link_belongs_to_the_folder_that_was_listed(tmp_path, make_pictures):
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "x.png").symlink_to(make_pictures("all", count=1)[0])
    (source,) = find_pictures([tmp_path / "chosen"], 2, "")
    assert (source.name, source.file) == ("chosen/x", "chosen/x.png")


def test_published_lr_is_found_beside_hr(tmp_path, make_pictures):
    make_pictures("DIV2K_train_HR", count=1)
    lr = make_pictures("DIV2K_train_LR_bicubic/X2", count=1, height=12, width=15)[0]
    lr.rename(lr.with_name("0000x2.png"))
    (two,) = find_pictures([tmp_path / "DIV2K_train_HR"], 2, "")
    (three,) = find_pictures([tmp_path / "DIV2K_train_HR"], 3, "")
    assert two.lr == lr.with_name("0000x2.png") and three.lr is None


def test_a_missing_folder_is_named_with_its_option(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*--data\.val_dirs$"):
        find_pictures([tmp_path / "nowhere"], 2, "--data.val_dirs")
    with pytest.raises(DataError, match=r"--data\.download true$"):
        find_pictures([tmp_path / "DIV2K_train_HR"], 2, "--data.train_dirs")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "._0001.png").write_bytes(b"what macOS leaves on other disks")
    with pytest.raises(DataError, match="empty holds no pictures"):
        find_pictures([tmp_path / "empty"], 2, "--data.train_dirs")


def test_held_out_pictures_are_those_that_match():
    sources = [Source(f"{folder}/{i}", Path(folder, f"{i}.png")) for folder in "ab" for i in range(3)]
    training, held = hold_out(sources, ["a/1*", "b/*0.png", "b/0.png"])
    assert [source.name for source in held] == ["a/1", "b/0"]
    assert [source.name for source in training] == ["a/0", "a/2", "b/1", "b/2"]
    with pytest.raises(DataError, match="c/\\* matches no"):
        hold_out(sources, ["c/*"])
    with pytest.raises(DataError, match="leaves no picture"):
        hold_out(sources, ["*"])
    with pytest.raises(DataError, match="leaves no picture"):
        hold_out([*sources, *sources], ["*"])
