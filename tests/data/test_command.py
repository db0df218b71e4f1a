"""`addersr data download`, from the command line to the folders, against a local server."""

import hashlib
from dataclasses import replace

import pytest

from addersr import cli
from addersr.data import command
from addersr.data.published import SETS
from addersr.images import files


@pytest.fixture
def flickr2k(server, pack, make_pictures, monkeypatch):
    """The server has a small Flickr2K, to which the command's address leads."""
    (hr,) = make_pictures("HR", count=1)
    (lr,) = make_pictures("LR", count=1, height=12, width=15)
    server.content = pack["tar"](
        {
            "Flickr2K/Flickr2K_HR/000001.png": hr.read_bytes(),
            **{f"Flickr2K/Flickr2K_LR_bicubic/X{s}/000001x{s}.png": lr.read_bytes() for s in (2, 3, 4)},
            "Flickr2K/Flickr2K_LR_unknown/X2/000001x2.png": b"x" * 100_000,
        }
    )
    (archive,) = SETS["flickr2k"].archives
    checksum = f"md5:{hashlib.md5(server.content, usedforsecurity=False).hexdigest()}"
    local = replace(archive, url=f"{server.url}/Flickr2K.tar", checksum=checksum)
    monkeypatch.setattr(command, "SETS", {**SETS, "flickr2k": replace(SETS["flickr2k"], archives=(local,))})
    return server


def download(*words):
    return cli.main(["data", "download", *map(str, words)])


def test_a_set_is_fetched_into_its_published_layout(flickr2k, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flickr2k.drop_after, flickr2k.drops_left = 50_000, 1
    assert download("flickr2k") == 0
    folders = ["Flickr2K_HR", *(f"Flickr2K_LR_bicubic/X{scale}" for scale in (2, 3, 4))]
    assert capsys.readouterr().out.split() == [f"data/Flickr2K/{folder}" for folder in folders]
    root = tmp_path / "data" / "Flickr2K"
    assert sorted(path.name for path in root.iterdir()) == ["Flickr2K_HR", "Flickr2K_LR_bicubic"]
    assert files.read(root / "Flickr2K_LR_bicubic" / "X2" / "000001x2.png").pixels.shape == (12, 15, 3)
    assert flickr2k.asked == [None, "bytes=50000-"]
    assert download("flickr2k") == 0 and len(flickr2k.asked) == 2


@pytest.mark.parametrize(
    ("words", "folders"),
    [(["--hr-only"], ["Flickr2K_HR"]), (["--scale", 3], ["Flickr2K_HR", "Flickr2K_LR_bicubic/X3"])],
)
def test_no_more_is_unpacked_than_asked_for(flickr2k, tmp_path, words, folders):
    assert download("flickr2k", "-o", tmp_path / "here", *words) == 0
    found = {path.parent.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.png")}
    assert sorted(map(str, found)) == folders


def test_failures_are_one_line(flickr2k, tmp_path, capsys):
    flickr2k.content += b"changed"
    assert download("flickr2k", "-o", tmp_path / "here") == 1
    error = capsys.readouterr().err
    assert error.startswith("addersr: error: Flickr2K.tar is damaged: its MD5 is") and error.count("\n") == 1
    assert download("flickr2k-hr", "--scale", 2) == 1
    assert "flickr2k-hr has no LR pictures" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder_is_not_for_want_of_room(flickr2k, tmp_path, capsys):
    (tmp_path / "here").touch()
    assert download("flickr2k", "-o", tmp_path / "here") == 1
    error = capsys.readouterr().err
    assert "here: File exists; choose another folder, and run" in error and "room" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["set5"], "invalid choice: 'set5' (choose from 'div2k', 'flickr2k', 'flickr2k-hr')"),
        (["div2k", "--scale", "5"], "argument --scale: invalid choice: 5"),
        (["div2k", "--scale", "2", "--hr-only"], "not allowed with argument --scale"),
        ([], "required: NAME (see `addersr data download --help`)"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        download(*words)
    error = capsys.readouterr().err
    assert message in error and error.startswith("addersr: error: ") and error.count("\n") == 1
