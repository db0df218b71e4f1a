"""Which pictures files, folders and patterns stand for, and where they lie within them."""

import os
import socket

import pytest

from addersr.errors import UsageError
from addersr.inference.plan import plan


def places(jobs, out):
    return [str(job.target.relative_to(out)) for job in jobs]


def test_folders_are_mirrored(tmp_path, make_picture):
    for name in ("z.png", "deep/a.jpg", "deep/er/b.WEBP", ".hidden.png", ".git/c.png"):
        make_picture(tmp_path / "in" / name)
    (tmp_path / "in/notes.md").write_text("not a picture")
    jobs, *_ = plan([tmp_path / "in"], tmp_path / "out", recursive=True)
    assert places(jobs, tmp_path / "out") == ["deep/a.jpg", "deep/er/b.WEBP", "z.png"]
    jobs, *_ = plan([tmp_path / "in"], tmp_path / "out")
    assert places(jobs, tmp_path / "out") == ["z.png"]


def test_a_folder_with_pictures_further_down_only_says_how_to_get_at_them(tmp_path, make_picture):
    make_picture(tmp_path / "in/deep/a.png")
    _, refused, _ = plan([tmp_path / "in"], tmp_path / "out")
    assert "--recursive looks into folders within it" in str(refused[0])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.png", ["a.png", "b_[1].png"]),
        ("in/**/*.png", ["a.png", "b_[1].png", "deep/c.png"]),
        ("in/*/*", ["deep/c.png"]),
        ("*/deep/c.*", ["in/deep/c.png"]),
        ("in/b_[1].png", ["b_[1].png"]),  # a file of that very name is no pattern
        ("in/[ab]*", ["a.png", "b_[1].png"]),
    ],
)
def test_a_pattern_gives_the_pictures_that_match_in_their_places(tmp_path, make_picture, pattern, expected):
    for name in ("a.png", "b_[1].png", "deep/c.png", "deep/.hidden.png"):
        make_picture(tmp_path / "in" / name)
    (tmp_path / "in/deep/notes.md").write_text("not a picture")
    jobs, refused, _ = plan([str(tmp_path / pattern)], tmp_path / "out")
    assert places(jobs, tmp_path / "out") == expected
    assert refused == []


def test_a_pattern_that_nothing_matches_is_a_failure(tmp_path):
    jobs, (refused,), _ = plan([str(tmp_path / "*.png")], tmp_path / "out")
    assert jobs == [] and "no picture matches this pattern" in refused.reason


def test_results_within_a_pattern_s_folder_are_not_input(tmp_path, make_picture):
    make_picture(tmp_path / "a.png")
    make_picture(tmp_path / "out/a.png")
    jobs, *_ = plan([str(tmp_path / "**/*.png")], tmp_path / "out")
    assert [job.source for job in jobs] == [tmp_path / "a.png"]
    make_picture(tmp_path / "a_x2.png")
    jobs, *_ = plan([str(tmp_path / "*.png")], tmp_path, name="{stem}_x{scale}{suffix}", scale=2)
    assert [(job.source.name, job.target.name) for job in jobs] == [("a.png", "a_x2.png")]


def test_results_of_another_format_beside_their_pictures_are_left_by_a_run_that_resumes(
    tmp_path, make_picture
):
    for name in ("a.png", "a.webp", "b.webp"):
        make_picture(tmp_path / name)
    jobs, refused, left = plan([tmp_path], tmp_path, format="webp", if_exists="skip")
    assert left == [tmp_path / "a.webp"]
    assert [(job.source.name, job.target.name) for job in jobs] == [("a.png", "a.webp")]
    assert [refusal.source.name for refusal in refused] == ["b.webp"]
    jobs, refused, left = plan([tmp_path], tmp_path, format="webp")  # else a.webp might be replaced
    assert jobs == left == [] and all("would overwrite the input" in refusal.reason for refusal in refused)


def test_what_is_no_file_is_no_picture_of_a_folder_but_a_pipe_may_be_named(tmp_path, make_picture):
    make_picture(tmp_path / "in/a.png")
    os.mkfifo(tmp_path / "in/pipe.png")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(tmp_path / "in/socket.png"))
    (tmp_path / "in/lost.png").symlink_to("gone")  # is an error, not nothing
    for inputs in (tmp_path / "in", f"{tmp_path}/in/[ap]*"):
        jobs, refused, _ = plan([inputs], tmp_path / "out")
        assert "a.png" in places(jobs, tmp_path / "out") and refused == []
        assert {"pipe.png", "socket.png"}.isdisjoint(places(jobs, tmp_path / "out"))
    assert "lost.png" in places(plan([tmp_path / "in"], tmp_path / "out")[0], tmp_path / "out")
    jobs, *_ = plan([tmp_path / "in/pipe.png"], tmp_path / "out")
    assert places(jobs, tmp_path / "out") == ["pipe.png"]
    jobs, (refused,), _ = plan([tmp_path / "in/socket.png"], tmp_path / "out")
    assert jobs == [] and "a device or a socket, not a picture" in refused.reason


@pytest.mark.parametrize("pattern", ["in/**/*.png", "in/**"])
def test_two_stars_follow_no_links_to_folders_and_find_nothing_hidden(tmp_path, make_picture, pattern):
    for name in ("in/a.png", "in/deep/b.png", "in/deep/.hidden/c.png"):
        make_picture(tmp_path / name)
    for index in range(4):  # followed, they would have more names than can be counted
        (tmp_path / f"in/again{index}").symlink_to(".")
    jobs, *_ = plan([f"{tmp_path}/{pattern}"], tmp_path / "out")
    assert places(jobs, tmp_path / "out") == ["a.png", "deep/b.png"]


def test_a_pattern_that_names_a_link_or_a_hidden_folder_finds_what_is_in_it(tmp_path, make_picture):
    make_picture(tmp_path / "in/.hidden/a.png")
    (tmp_path / "in/link").symlink_to(".hidden")
    for pattern, place in (("in/.hidden/*.png", "a.png"), ("in/l*/*.png", "link/a.png")):
        jobs, *_ = plan([f"{tmp_path}/{pattern}"], tmp_path / "out")
        assert places(jobs, tmp_path / "out") == [place]


@pytest.mark.parametrize(("inputs", "out"), [([""], "out"), (["a.png", ""], "out"), (["a.png"], "")])
def test_nothing_is_no_name(inputs, out):
    with pytest.raises(UsageError, match="is empty; name a"):
        plan(inputs, out)


def test_an_empty_folder_is_a_failure(tmp_path):
    (tmp_path / "in").mkdir()
    jobs, failed, _ = plan([tmp_path / "in"], tmp_path / "out")
    assert jobs == []
    assert "no pictures in this folder" in str(failed[0])


def test_a_folder_that_cannot_be_read_is_a_failure(tmp_path, monkeypatch, make_picture):
    """The system's refusal is made up here, because tests may run as root, who may read all."""
    make_picture(tmp_path / "in/a.png")
    make_picture(tmp_path / "in/locked/b.png")
    scandir = os.scandir

    def refuse(place):
        if os.path.basename(place) == "locked":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    jobs, failed, _ = plan([tmp_path / "in"], tmp_path / "out", recursive=True)
    assert [job.source.name for job in jobs] == ["a.png"]
    assert list(map(str, failed)) == [
        f"{tmp_path / 'in/locked'}: this folder cannot be read: Permission denied"
    ]


def test_a_file_named_twice_is_done_once(tmp_path, make_picture):
    picture = make_picture(tmp_path / "in/a.png")
    jobs, failed, _ = plan(
        [picture, tmp_path / "in" / ".." / "in" / "a.png", tmp_path / "in"], tmp_path / "out"
    )
    assert len(jobs) == 1
    assert failed == []


def test_results_within_the_input_are_not_input(tmp_path, make_picture):
    make_picture(tmp_path / "a.png")
    make_picture(tmp_path / "out/a.png")
    jobs, *_ = plan([tmp_path], tmp_path / "out")
    assert [job.source for job in jobs] == [tmp_path / "a.png"]
