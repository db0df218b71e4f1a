import errno
import io
import os
import shutil
import stat
import tarfile
import zipfile

import pytest

from addersr.atomic import PREFIX
from addersr.data.unpack import unpack
from addersr.errors import DataError

FOLDERS = {"LR_bicubic/X2": "Set/LR/X2"}
PICTURES = {"Set/LR/X2/0001x2.png": b"1", "Set/LR/X2/0002x2.png": b"2"}
KINDS = pytest.mark.parametrize("kind", ["zip", "tar"])


@pytest.fixture
def unpacked(tmp_path):
    """unpacked(content, kind) unpacks into tmp_path/root and returns what is there."""
    root = tmp_path / "root"
    root.mkdir()

    def unpacked(content, kind, folders=FOLDERS):
        path = tmp_path / "set.part"
        path.write_bytes(content)
        try:
            unpack(path, f"set.{kind}", folders, root / ".work", root)
        finally:
            assert not (root / ".work").exists()
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    return unpacked


@KINDS
@pytest.mark.parametrize("prefix", ["", "./"])
def test_the_wanted_folders_are_unpacked_and_nothing_else(unpacked, pack, kind, prefix):
    others = {"Set/LR/X22/1.png": b"x", "Set/HR/1.png": b"x", "readme.txt": b"x"}
    content = pack[kind]({prefix + name: data for name, data in (PICTURES | others).items()})
    assert unpacked(content, kind) == {"LR_bicubic/X2/0001x2.png": b"1", "LR_bicubic/X2/0002x2.png": b"2"}


def test_folders_may_have_members_of_their_own(unpacked, tmp_path):
    (tmp_path / "Set" / "HR").mkdir(parents=True)
    (tmp_path / "Set" / "HR" / "1.png").write_bytes(b"1")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(tmp_path / "Set", "Set")
    assert unpacked(buffer.getvalue(), "tar", {"Set_HR": "Set/HR"}) == {"Set_HR/1.png": b"1"}


@KINDS
@pytest.mark.parametrize("name", ["../evil", "/evil", "Set/LR/X2/../../../../evil", "C:\\evil", "..\\evil"])
def test_an_archive_that_would_write_elsewhere_is_refused(unpacked, pack, tmp_path, kind, name):
    with pytest.raises(DataError, match="written elsewhere"):
        unpacked(pack[kind]({**PICTURES, name: b"evil"}), kind)
    assert not list((tmp_path / "root").iterdir()) and not list(tmp_path.rglob("*evil*"))


def test_a_link_in_a_zip_is_refused(unpacked):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("Set/LR/X2/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        unpacked(buffer.getvalue(), "zip")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_a_tar_is_refused(unpacked, kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("Set/LR/X2/link")
        member.type, member.linkname = kind, "/etc/hostname"
        archive.addfile(member)
    with pytest.raises(DataError, match="neither a file nor a folder"):
        unpacked(buffer.getvalue(), "tar")


@KINDS
def test_what_is_no_archive_is_refused(unpacked, kind):
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpacked(b"no archive at all", kind)


@KINDS
def test_an_archive_without_the_folder_is_refused(unpacked, pack, tmp_path, kind):
    with pytest.raises(DataError, match="holds no folder Set/LR/X2"):
        unpacked(pack[kind]({"OTHER/0001.png": b"x"}), kind)
    assert not list((tmp_path / "root").iterdir())


@KINDS
def test_a_cut_archive_is_refused_and_leaves_nothing(unpacked, pack, tmp_path, kind):
    content = pack[kind]({name: data * 5000 for name, data in PICTURES.items()})
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpacked(content[:8000], kind)
    assert not list((tmp_path / "root").iterdir())


@KINDS
def test_another_scale_is_unpacked_beside_the_first(unpacked, pack, tmp_path, kind):
    other = tmp_path / "root" / "LR_bicubic" / "X3" / "0001x3.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"3")
    assert unpacked(pack[kind](PICTURES), kind).keys() == {
        "LR_bicubic/X2/0001x2.png",
        "LR_bicubic/X2/0002x2.png",
        "LR_bicubic/X3/0001x3.png",
    }


@pytest.mark.parametrize("left", [False, True], ids=["", "after one that was killed"])
def test_on_another_disk_a_folder_appears_whole_or_not_at_all(unpacked, pack, tmp_path, monkeypatch, left):
    """The place is a link; what is moved between disks is copied, file by file."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "root" / "LR_bicubic").symlink_to(tmp_path / "disk")
    if left:
        old = tmp_path / "disk" / f"{PREFIX}X2" / "old.png"
        old.parent.mkdir()
        old.write_bytes(b"half")
    rename, seen = os.rename, []

    def across_disks(source, target):
        if ".work" in str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    def copy(source, target):
        seen.append((tmp_path / "disk" / "X2").exists())
        if fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        return shutil.copyfile(source, target)

    monkeypatch.setattr(os, "rename", across_disks)
    monkeypatch.setattr(shutil, "copy2", copy)
    monkeypatch.setattr(shutil.move, "__defaults__", (copy,))
    fails = True
    with pytest.raises(OSError, match="No space left"):
        unpacked(pack["zip"](PICTURES), "zip")
    assert not list((tmp_path / "disk").iterdir())
    fails = False
    unpacked(pack["zip"](PICTURES), "zip")
    assert seen == [False] * len(seen) and len(seen) >= 3
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["X2"]
    assert {p.name for p in (tmp_path / "disk" / "X2").iterdir()} == {"0001x2.png", "0002x2.png"}


def test_what_a_killed_run_left_is_not_taken_up(unpacked, pack, tmp_path):
    old = tmp_path / "root" / ".work" / "LR_bicubic" / "X2" / "old.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"half")
    assert "LR_bicubic/X2/old.png" not in unpacked(pack["zip"](PICTURES), "zip")
