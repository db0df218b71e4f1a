"""Validation pictures as a person sees them, and the score of bicubic beside."""

import io
import shutil
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from addersr.evaluation.metrics import psnr
from addersr.images.color import rgb_to_y
from addersr.images.resize import imresize
from addersr.training import pictures
from addersr.training.pictures import labelled_grid

GROUND = np.array((32, 32, 32), np.uint8)


@pytest.fixture
def shown(monkeypatch):
    """What was drawn: (title, {label: picture}) in order."""
    calls = []

    def record(title, panels):
        calls.append((title, dict(panels)))
        return labelled_grid(title, panels)

    monkeypatch.setattr(pictures, "labelled_grid", record)
    return calls


def events_of(run):
    events = EventAccumulator(str(run))
    events.Reload()
    return events


def score(picture, hr):
    return psnr(*(rgb_to_y(pixels)[2:-2, 2:-2] for pixels in (picture, hr)))


def test_a_grid_has_each_picture_whole_under_its_label():
    random = np.random.default_rng(0)
    shapes = [(40, 30), (20, 200), (41, 5)]
    panels = [random.integers(256, size=(*shape, 3), dtype=np.uint8) for shape in shapes]
    labels = ["a\n30.00 dB", "b", "a label wider than its picture"]
    grid = labelled_grid("the title", list(zip(labels, panels, strict=True)))
    top, lefts = grid.shape[0] - 8 - 41, []
    for panel, (height, width) in zip(panels, shapes, strict=True):
        found = [x for x in range(8, grid.shape[1]) if (grid[top : top + height, x] == panel[:, 0]).all()]
        assert len(found) == 1
        assert (grid[top : top + height, found[0] : found[0] + width] == panel).all()
        lefts += found
    text = (grid[:top] != GROUND).any(axis=2)
    edges = [0, *lefts[1:], grid.shape[1]]
    for left, right in pairwise(edges):
        assert text[top // 3 :, left : right - 8].any()  # a label, which ends before the next begins
        assert not text[top // 3 :, right - 4 : right].any()
    assert text[: top // 3].any() and not text[0].any() and not text[-1].any()
    assert lefts[0] == 8 and grid.shape[1] - lefts[2] > 8 + 100  # made wide for the label


def test_a_title_wider_than_the_pictures_is_not_cut():
    panel = [("x", np.zeros((4, 4, 3), np.uint8))]
    short, long = (labelled_grid(title, panel) for title in ("t", "a title " * 20))
    assert long.shape[1] > 5 * short.shape[1]
    assert (long[:, -8:] == GROUND).all() and (long[8:24, -40:-8] != GROUND).any()


def test_pictures_go_to_tensorboard_and_to_a_file_that_is_replaced(command, tmp_path, data, shown):
    assert command("fit", "--trainer.max_steps", 4) == 0
    run = tmp_path / "run"
    events = events_of(run)
    assert events.Tags()["images"] == ["pictures/val/0000", "pictures/val/0001"]
    images = events.Images("pictures/val/0000")
    assert [image.step for image in images] == [2, 4]
    files = {str(path.relative_to(run / "pictures")) for path in (run / "pictures").rglob("*.*")}
    assert files == {"val/0000.png", "val/0001.png"}
    first, last = (np.array(Image.open(io.BytesIO(image.encoded_image_string))) for image in images)
    assert (np.array(Image.open(run / "pictures" / "val" / "0000.png")) == last).all()
    assert (first != last).any()

    title, panels = shown[-2]
    assert title == "val/0000   x2   step 4"
    assert [label.split("\n")[0] for label in panels] == ["LR, nearest", "bicubic", "SR", "HR"]
    nearest, bicubic, sr, high = panels.values()
    hr = np.array(Image.open(data / "val" / "0000.png"))
    lr = imresize(hr, 0.5)
    assert (high == hr).all() and (bicubic == imresize(lr, 2)).all()
    assert (nearest[::2, ::2] == lr).all() and (nearest[1::2, 1::2] == lr).all()
    for label, picture in list(panels.items())[:3]:
        assert label.split("\n")[1] == f"{score(picture, hr):.2f} dB"
    assert (sr != list(shown[-4][1].values())[2]).any()  # of this validation, not of the one before


def test_pictures_of_one_name_have_files_of_their_own(command, tmp_path, data):
    for other in "ab":
        shutil.copytree(data / "val", tmp_path / other / "HR")
    words = ("--data.val_dirs", f"[{tmp_path / 'a' / 'HR'}, {tmp_path / 'b' / 'HR'}]")
    assert command("fit", "--trainer.max_steps", 2, *words) == 0
    pictures = tmp_path / "run" / "pictures"
    names = {str(path.relative_to(pictures)) for path in pictures.rglob("*.*")}
    assert names == {f"{other}/HR/000{number}.png.png" for other in "ab" for number in range(2)}


def test_a_large_picture_is_shown_in_its_middle(command, data, shown):
    assert command("fit", "--trainer.max_steps", 2, "--pictures.side", 20, "--pictures.count", 1) == 0
    ((_, panels),) = shown
    hr = np.array(Image.open(data / "val" / "0000.png"))
    middle = (slice(8, 28), slice(14, 34))
    up = imresize(imresize(hr, 0.5), 2)
    _, bicubic, sr, high = panels.items()
    assert (high[1] == hr[middle]).all() and (bicubic[1] == up[middle]).all() and sr[1].shape == (20, 20, 3)
    assert bicubic[0] == f"bicubic\n{score(up, hr):.2f} dB"  # of the whole picture


def test_bicubic_is_scored_once_and_drawn_as_a_line(command, tmp_path, data, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return imresize(*arguments)

    monkeypatch.setattr(pictures, "imresize", counted)
    assert command("fit", "--trainer.max_steps", 4, "--pictures.count", 0) == 0
    assert len(calls) == 2  # pictures; validations are two and a trial
    events = events_of(tmp_path / "run")
    assert events.Tags()["images"] == [] and not (tmp_path / "run" / "pictures").exists()
    by_hand = []
    for path in sorted((data / "val").iterdir()):
        hr = np.array(Image.open(path))
        by_hand.append(score(imresize(imresize(hr, 0.5), 2), hr))
    line = events.Scalars("val/psnr_bicubic")
    assert [event.step for event in line] == [event.step for event in events.Scalars("val/psnr")] == [1, 3]
    assert [event.value for event in line] == pytest.approx([np.mean(by_hand)] * 2, rel=1e-6)


def test_validating_shows_the_score_of_bicubic_and_leaves_no_pictures(command, tmp_path, weights, capsys):
    assert command("validate", "--model.init_from", weights) == 0
    assert "val/psnr_bicubic" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
