from pathlib import Path

import pytest

from addersr.data import published
from addersr.data.published import SETS, fetch_missing, published_lr


def test_the_published_archives_are_described():
    div2k = SETS["div2k"].archives
    assert len({archive.url for archive in div2k}) == 8
    for archive in div2k:
        (folder,) = archive.folders
        assert archive.url == f"https://data.vision.ee.ethz.ch/cvl/DIV2K/{folder.replace('/', '_')}.zip"
        assert archive.folders[folder] == folder and archive.size > 30_000_000
    for data_set in SETS.values():
        for archive in data_set.archives:
            algorithm, digest = archive.checksum.split(":")
            assert len(bytes.fromhex(digest)) == {"sha256": 32, "md5": 16}[algorithm]


@pytest.mark.parametrize(
    ("name", "scales", "places"),
    [
        ("div2k", (), ["DIV2K_train_HR", "DIV2K_valid_HR"]),
        (
            "div2k",
            (3,),
            [
                "DIV2K_train_HR",
                "DIV2K_valid_HR",
                "DIV2K_train_LR_bicubic/X3",
                "DIV2K_valid_LR_bicubic/X3",
            ],
        ),
        ("flickr2k", (), ["Flickr2K_HR"]),
        ("flickr2k", (2, 4), ["Flickr2K_HR", "Flickr2K_LR_bicubic/X2", "Flickr2K_LR_bicubic/X4"]),
        ("flickr2k-hr", (2, 3, 4), ["Flickr2K_HR"]),
    ],
)
def test_a_set_fetches_hr_and_lr_of_the_scales_asked_for(tmp_path, monkeypatch, name, scales, places):
    monkeypatch.setattr(published, "fetch", lambda archive, root, wanted: [root / place for place in wanted])
    assert SETS[name].fetch(tmp_path, scales) == [tmp_path / place for place in places]


@pytest.fixture
def asked(monkeypatch):
    asked = []
    monkeypatch.setattr(
        published, "fetch", lambda archive, root, places: asked.append((archive.name, root, places))
    )
    return asked


def test_only_missing_folders_of_the_layout_are_fetched(tmp_path, asked):
    fetch_missing([tmp_path / "DIV2K_valid_HR", tmp_path / "mine_HR", "mine", "X2"], 3)
    assert asked == [
        ("DIV2K_valid_HR.zip", tmp_path, ["DIV2K_valid_HR"]),
        ("DIV2K_valid_LR_bicubic_X3.zip", tmp_path, ["DIV2K_valid_LR_bicubic/X3"]),
    ]


def test_what_a_recipe_fetches_is_as_large_as_its_comment_says(tmp_path, asked):
    folders = [tmp_path / "DIV2K_train_HR", tmp_path / "DIV2K_valid_HR"]
    fetch_missing(folders, 2)
    sizes = {archive.name: archive.size for archive in SETS["div2k"].archives}
    recipe = (Path(__file__).parents[2] / "configs" / "edsr_adder_small_x2.yaml").read_text()
    fetched = sum(sizes[name] for name, *_ in asked)
    assert f"--data.download true to fetch it: {fetched / 1e9:.1f} GB" in recipe


def test_flickr2k_is_fetched_with_its_lr_but_not_again_for_lr_alone(tmp_path, asked):
    folder = tmp_path / "Flickr2K_HR"
    fetch_missing([folder], 4)
    assert asked == [("Flickr2K.tar", tmp_path, ["Flickr2K_HR", "Flickr2K_LR_bicubic/X4"])]
    folder.mkdir()
    fetch_missing([folder], 4)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("DIV2K_valid_HR/0801.png", "DIV2K_valid_LR_bicubic/X4/0801x4.png"),
        ("Flickr2K_HR/000001.png", "Flickr2K_LR_bicubic/X4/000001x4.png"),
        ("mine_HR/a.webp", "mine_LR_bicubic/X4/ax4.png"),
    ],
)
def test_lr_is_found_by_the_published_name(tmp_path, hr, lr):
    hr, lr = tmp_path / hr, tmp_path / lr
    lr.parent.mkdir(parents=True)
    assert published_lr(hr, 4) is None
    lr.touch()
    assert published_lr(hr, 4) == lr
    assert published_lr(hr, 2) is None
    assert published_lr(tmp_path / "pictures" / hr.name, 4) is None
