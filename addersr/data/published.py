"""The published data sets: their archives, and where their pictures lie.

    DIV2K_train_HR/0001.png ... 0800.png        DIV2K_train_LR_bicubic/X2/0001x2.png ... (X3, X4 likewise)
    DIV2K_valid_HR/0801.png ... 0900.png        DIV2K_valid_LR_bicubic/X2/0801x2.png ...
    Flickr2K_HR/000001.png ... 002650.png       Flickr2K_LR_bicubic/X2/000001x2.png ...

DIV2K: Agustsson and Timofte, "NTIRE 2017 Challenge on Single Image Super-Resolution" (CVPRW 2017). Flickr2K: Lim et
al., "Enhanced Deep Residual Networks for Single Image Super-Resolution" (CVPRW 2017).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from addersr.data.download import Archive, fetch

SCALES = (2, 3, 4)


@dataclass(frozen=True)
class DataSet:
    """A published set."""

    folder: str
    """Its own, which the layout above is in."""
    archives: tuple[Archive, ...]
    summary: str
    """For people: what it is and how large."""

    @property
    def has_lr(self) -> bool:
        """Whether LR pictures are among the archives."""
        return any("_LR_" in place for archive in self.archives for place in archive.folders)

    def fetch(self, root: Path, scales: Collection[int]) -> list[Path]:
        """Fetches what is missing of HR and of the LR pictures of some scales.

        Args:
            root: the set's folder.
            scales: of 2, 3 and 4; none for HR alone.

        Returns:
            the folders of pictures, which are there.

        Raises:
            DataError: as `addersr.data.download.fetch`.
        """
        found = []
        for archive in self.archives:
            wanted = [
                place
                for place in archive.folders
                if "_LR_" not in place or int(place.rpartition("/X")[2]) in scales
            ]
            found += fetch(archive, root, wanted) if wanted else []
        return found


def _div2k(name: str, size: int, sha256: str) -> Archive:
    folder = name.replace("_X", "/X")
    url = f"https://data.vision.ee.ethz.ch/cvl/DIV2K/{name}.zip"
    return Archive(url, f"sha256:{sha256}", {folder: folder}, size)


SETS: Mapping[str, DataSet] = {
    "div2k": DataSet(
        "DIV2K",
        # Sizes and checksums as TensorFlow Datasets has them (tensorflow_datasets/datasets/div2k/checksums.tsv).
        (
            _div2k(
                "DIV2K_train_HR",
                3530603713,
                "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
            ),
            _div2k(
                "DIV2K_valid_HR",
                448993893,
                "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
            ),
            _div2k(
                "DIV2K_train_LR_bicubic_X2",
                925390592,
                "a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850",
            ),
            _div2k(
                "DIV2K_train_LR_bicubic_X3",
                427847282,
                "ad5c8e5507e2765823d3c2c5bd0934842efcd487c5370604c224090898b3163a",
            ),
            _div2k(
                "DIV2K_train_LR_bicubic_X4",
                246914039,
                "f006b837f4eb52b82909aa01478e6d6d199eefce932179491d0c9dbb706dde3a",
            ),
            _div2k(
                "DIV2K_valid_LR_bicubic_X2",
                117763600,
                "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57",
            ),
            _div2k(
                "DIV2K_valid_LR_bicubic_X3",
                54513392,
                "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3",
            ),
            _div2k(
                "DIV2K_valid_LR_bicubic_X4",
                31505881,
                "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553",
            ),
        ),
        "800 and 100 pictures; HR 4.0 GB, LR 1.0 GB (x2), 0.5 (x3), 0.3 (x4)",
    ),
    "flickr2k": DataSet(
        "Flickr2K",
        (
            # The authors publish neither size nor checksum. This MD5 is what torchSR (torchsr/datasets/flickr2k.py)
            # and Catalyst's ESRGAN example hold it to.
            Archive(
                "https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar",
                "md5:5d3f39443d5e9489bff8963f8f26cb03",
                {"Flickr2K_HR": "Flickr2K/Flickr2K_HR"}
                | {f"Flickr2K_LR_bicubic/X{s}": f"Flickr2K/Flickr2K_LR_bicubic/X{s}" for s in SCALES},
            ),
        ),
        "2650 pictures in one archive of HR and LR, well over 12 GB",
    ),
    "flickr2k-hr": DataSet(
        "Flickr2K",
        (
            # A copy, not the authors': its SHA-256 is that of the repository it is in (Git LFS), which gives the size
            # in GB only.
            Archive(
                "https://huggingface.co/datasets/goodfellowliu/Flickr2K/resolve/main/Flickr2K.zip",
                "sha256:401a5b1d247d18d1114b77b069e3c7bf235c80f06b8b9caaef0086d07f1d42a3",
                {"Flickr2K_HR": "Flickr2K"},
            ),
        ),
        "its HR pictures alone, 11.6 GB, a copy on Hugging Face for when the authors' server is not reached",
    ),
}
"""Name on the command line -> set; of two with the same folders, training fetches from the first."""


def published_lr(hr: Path, scale: int) -> Path | None:
    """The bicubic LR picture published beside an HR picture, or None where there is none."""
    folder = hr.parent
    if not folder.name.endswith("_HR"):
        return None
    lr = folder.parent / _lr_folder(folder.name, scale) / f"{hr.stem}x{scale}.png"
    return lr if lr.is_file() else None


def _lr_folder(hr: str, scale: int) -> str:
    return f"{hr.removesuffix('_HR')}_LR_bicubic/X{scale}"


def archives_of(folder: Path) -> Sequence[Archive]:
    """The archives of the set that publishes HR pictures in a folder of this name; none where no set does."""
    for data_set in SETS.values():
        if folder.name.endswith("_HR") and any(
            folder.name in archive.folders for archive in data_set.archives
        ):
            return data_set.archives
    return ()


def fetch_missing(folders: Sequence[str | Path], scale: int) -> None:
    """Fetches those of ``folders`` that are named as in the layout and missing, and their LR of ``scale``.

    LR that is missing is fetched only where it has an archive of its own: else it is made, bit for bit the same, sooner
    than the archive of HR and LR is fetched again.
    """
    for folder in map(Path, folders):
        for archive in archives_of(folder):
            places = [
                place for place in (folder.name, _lr_folder(folder.name, scale)) if place in archive.folders
            ]
            if places and not (folder.parent / places[0]).is_dir():
                fetch(archive, folder.parent, places)
