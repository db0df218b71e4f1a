"""Where the results of `addersr upscale` go."""

import os
import tempfile
from pathlib import Path

import pytest

from addersr.errors import ImageError, UsageError
from addersr.images.files import EXTENSIONS, FORMATS
from addersr.inference.plan import check_name, check_output, plan


def test_files_go_into_the_folder(tmp_path, make_picture):
    a, b = make_picture(tmp_path / "in/a.jpg"), make_picture(tmp_path / "in/b.png")
    jobs, failed, _ = plan([a, b], tmp_path / "out")
    assert [job.target for job in jobs] == [tmp_path / "out/a.jpg", tmp_path / "out/b.png"]
    assert failed == []


# Names.


def test_suffix_and_format(tmp_path, make_picture):
    make_picture(tmp_path / "in/a.b.jpg")
    jobs, *_ = plan([tmp_path / "in"], tmp_path / "out", name="{stem}_x2{suffix}", format="webp")
    assert [job.target.name for job in jobs] == ["a.b_x2.webp"]


@pytest.mark.parametrize(
    ("given", "format", "expected"),
    [
        ("true.png", "webp", "true.webp"),
        ("false.jpg", "webp", "false.webp"),
        ("true.png", None, "true.png"),
        ("false.jpg", None, "false.png"),
        ("photo", "jpeg", "photo.jpg"),
        ("false.xyz", None, "false.png"),
    ],
)
def test_its_own_format_is_what_a_file_is_not_what_it_is_called(
    tmp_path, make_picture, given, format, expected
):
    make_picture(tmp_path / "a.png").rename(tmp_path / given)
    (job,), *_ = plan([tmp_path / given], tmp_path / "out", format=format)
    assert job.target.name == expected


@pytest.mark.parametrize("suffix", sorted(EXTENSIONS))
def test_every_format_is_known_by_its_first_bytes(tmp_path, make_picture, suffix):
    make_picture(tmp_path / f"a{suffix}").rename(tmp_path / "photo")
    (job,), *_ = plan([tmp_path / "photo"], tmp_path / "out")
    assert FORMATS[job.target.suffix] == FORMATS[suffix]
    assert plan([make_picture(tmp_path / f"b{suffix}")], "out")[0][0].target == Path("out", f"b{suffix}")


@pytest.mark.parametrize(
    ("source", "format", "name", "expected"),
    [
        ("a.JPEG", "jpeg", "{stem}{suffix}", "a.JPEG"),  # it has that format already
        ("a.png", "jpeg", "{stem}{suffix}", "a.jpg"),
        ("a.png", "tiff", "{stem}{suffix}", "a.tif"),
        ("a.png", None, "{stem}_x{scale}{suffix}", "a_x2.5.png"),
        ("a.png", None, "x{scale} of {stem}{suffix}", "x2.5 of a.png"),
        ("a{0}.png", None, "{{{stem}}}{suffix}", "{a{0}}.png"),
    ],
)
def test_names(source, format, name, expected):
    (job,), *_ = plan([source], "out", name=check_name(name), scale=2.5, format=format)
    assert job.target == Path("out", expected)


@pytest.mark.parametrize(
    "pattern",
    [
        "large.png",
        "{stem}",
        "{stem}.png",
        "{stem}{suffix}.bak",
        "{suffix}",
        "{stem}{suffix}{suffix}",
        "{stem}{size}{suffix}",
        "{stem!r}{suffix}",
        "{stem:>9}{suffix}",
        "{stem.__class__}{suffix}",
        "{}{stem}{suffix}",
        "{stem{suffix}",
        "deep/{stem}{suffix}",
    ],
)
def test_patterns_that_are_none(pattern):
    with pytest.raises(ValueError):
        check_name(pattern)


def test_a_size_has_no_scale_to_name(tmp_path):
    with pytest.raises(UsageError, match="leave it out"):
        plan(["a.png"], tmp_path, name="{stem}_x{scale}{suffix}")


def test_one_picture_may_be_given_its_name(tmp_path, make_picture):
    picture = make_picture(tmp_path / "a.jpg")
    assert plan([picture], tmp_path / "b.png")[0][0].target == tmp_path / "b.png"
    (tmp_path / "folder.png").mkdir()
    assert plan([picture], tmp_path / "folder.png")[0][0].target == tmp_path / "folder.png/a.jpg"


def test_a_name_of_no_format_is_an_error_that_tells_the_known_ones(tmp_path, make_picture):
    picture = make_picture(tmp_path / "a.jpg")
    with pytest.raises(UsageError) as caught:
        plan([picture], tmp_path / "b.PSD")
    assert f"-o {tmp_path / 'b.PSD'}: no picture format is named '.psd'" in str(caught.value)
    assert all(ending in str(caught.value) for ending in EXTENSIONS)


def test_a_slash_or_a_folder_that_is_there_or_several_inputs_make_it_a_folder(tmp_path, make_picture):
    picture = make_picture(tmp_path / "a.jpg")
    for out in (f"{tmp_path}/b.xyz/", f"{tmp_path}/b.png/", f"{tmp_path}/.hidden"):
        assert plan([picture], out)[0][0].target == Path(out, "a.jpg")
    (tmp_path / "v1.5").mkdir()
    assert plan([picture], tmp_path / "v1.5")[0][0].target == tmp_path / "v1.5/a.jpg"
    for inputs in ([tmp_path], [picture, make_picture(tmp_path / "b.jpg")]):
        assert plan(inputs, tmp_path / "b.xyz")[0][0].target == tmp_path / "b.xyz/a.jpg"


def test_a_file_of_unknown_suffix_becomes_png(tmp_path):
    assert plan([tmp_path / "a.jpe"], tmp_path / "out")[0][0].target == tmp_path / "out/a.png"


def test_two_inputs_for_one_result_are_both_refused_and_the_others_done(tmp_path, make_picture):
    for name in ("one/a.png", "two/a.png", "one/b.png"):
        make_picture(tmp_path / name)
    jobs, failed, _ = plan([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert [job.source.name for job in jobs] == ["b.png"]
    assert [refused.source for refused in failed] == [tmp_path / "one/a.png", tmp_path / "two/a.png"]
    assert f"would also be that of {tmp_path / 'two/a.png'}" in failed[0].reason


@pytest.mark.parametrize("alias", [False, True])
def test_an_input_is_never_overwritten(tmp_path, alias, make_picture):
    make_picture(tmp_path / "in/a.png")
    (tmp_path / "alias").symlink_to(tmp_path / "in")
    jobs, failed, _ = plan([tmp_path / "in"], tmp_path / ("alias" if alias else "in"))
    assert jobs == []
    assert "would overwrite the input" in failed[0].reason
    assert plan([tmp_path / "in"], tmp_path / "in", name="{stem}_x2{suffix}")[1] == []


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("file", {}, "is a file; name a folder"),
        ("out.png", {}, "names one picture, but the input may be several"),
    ],
)
def test_out_that_cannot_take_the_results(tmp_path, out, options, message, make_picture):
    (tmp_path / "file").write_text("here first")
    pictures = [make_picture(tmp_path / name) for name in ("a.png", "b.png")]
    with pytest.raises(UsageError, match=message):
        plan(pictures, tmp_path / out, **options)


def test_a_named_result_takes_no_suffix(tmp_path, make_picture):
    with pytest.raises(UsageError, match="leave out --name and --suffix"):
        plan([make_picture(tmp_path / "a.png")], tmp_path / "b.png", name="{stem}_x2{suffix}")
    with pytest.raises(UsageError, match="leave out --format"):
        plan([make_picture(tmp_path / "a.png")], tmp_path / "b.png", format="webp")


@pytest.mark.parametrize(("one", "other"), [("A.png", "a.png"), ("\u00e9.png", "e\u0301.png")])
def test_names_that_some_file_systems_take_for_one(tmp_path, one, other, make_picture):
    pictures = [make_picture(tmp_path / "in1" / one), make_picture(tmp_path / "in2" / other)]
    jobs, failed, _ = plan(pictures, tmp_path / "out")
    assert jobs == []
    assert len(failed) == 2


def test_a_result_under_another_name_of_the_input_is_refused(tmp_path, make_picture):
    picture = make_picture(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").hardlink_to(picture)
    assert "would overwrite the input" in str(plan([picture], tmp_path / "out")[1][0])


@pytest.mark.parametrize("given", ["sd", "sd/*.png"])
@pytest.mark.parametrize("if_exists", ["error", "skip", "overwrite"])
def test_what_may_be_an_original_is_never_overwritten(tmp_path, make_picture, given, if_exists):
    for name in ("sd/a.png", "sd/a_x2.png", "sd/a_x2_x2.png", "sd/b.png"):
        make_picture(tmp_path / name)
    planned = plan(
        [str(tmp_path / given)], tmp_path / "sd", name="{stem}_x{scale}{suffix}", scale=2, if_exists=if_exists
    )
    done = [job.source.name for job in planned.jobs]
    refused = {refusal.source.name: refusal.reason for refusal in planned.refused}
    left = [path.name for path in planned.left]
    assert sorted([*done, *refused, *left]) == ["a.png", "a_x2.png", "a_x2_x2.png", "b.png"]
    if if_exists == "overwrite":
        assert (done, left) == (["b.png"], [])
        assert f"would overwrite the input {tmp_path / 'sd/a_x2.png'}; " in refused["a.png"]
        assert "may be an original" in refused["a_x2_x2.png"]
    else:  # nothing is overwritten
        assert (done, refused, left) == (["a.png", "b.png"], {}, ["a_x2.png", "a_x2_x2.png"])


def test_a_result_whose_picture_alone_is_named_may_be_overwritten(tmp_path, make_picture):
    picture, result = make_picture(tmp_path / "a.png"), make_picture(tmp_path / "a_x2.png")
    naming = {"name": "{stem}_x2{suffix}", "if_exists": "overwrite"}
    (job,), refused, left = plan([picture], tmp_path, **naming)
    assert (job.target, refused, left) == (result, [], [])
    (job,), (refusal,), left = plan([picture, result], tmp_path, **naming)
    assert (job.source, refusal.source, left) == (result, picture, [])


# Whether results can be put there.


@pytest.mark.parametrize("out", ["", "new", "new/deep", "b.png", "new/b.png"])
def test_a_place_that_can_be_written_is_tried_and_left_as_it_was(tmp_path, make_picture, out):
    jobs, *_ = plan([make_picture(tmp_path / "in/a.jpg")], tmp_path / out)
    check_output(jobs, tmp_path / out)
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("file/out", "Not a directory"),
        ("nowhere/out", "No such file or directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written(tmp_path, make_picture, out, reason):
    (tmp_path / "file").write_text("here first")
    (tmp_path / "nowhere").symlink_to("gone")
    jobs, *_ = plan([make_picture(tmp_path / "in/a.jpg")], tmp_path / out)
    with pytest.raises(
        ImageError, match=f"^-o {tmp_path / out}: cannot be written: {reason}; choose another"
    ):
        check_output(jobs, tmp_path / out)


def test_a_folder_that_the_system_protects(tmp_path, make_picture, monkeypatch):
    """The refusal is made up, because tests may run as root, who may write all but a disk that is read-only."""
    tried = []

    def refuse(dir):
        tried.append(dir)
        raise OSError(30, "Read-only file system", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    picture = make_picture(tmp_path / "in/a.jpg")
    for out in ("out/deep", "in/b.png"):
        with pytest.raises(ImageError, match="cannot be written: Read-only file system"):
            check_output(plan([picture], tmp_path / out)[0], tmp_path / out)
    assert tried == [tmp_path, tmp_path / "in"]
