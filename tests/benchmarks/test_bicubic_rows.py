"""bicubic_rows.py: published bicubic rows beside what comes out here."""

import re
import shutil
import sys

import numpy as np
import pytest

from addersr.evaluation.benchmark import BICUBIC, Model, score_set
from addersr.evaluation.protocol import PROTOCOLS
from addersr.evaluation.sets import find_pictures
from addersr.images import files


@pytest.fixture
def page(benchmarks, monkeypatch, tmp_path, picture):
    """page(published) is the exit code and the page, where `published` is (PSNR, SSIM) at each scale of one picture."""
    rows = benchmarks.bicubic_rows

    def run(published, images=1):
        monkeypatch.setattr(rows, "PUBLISHED", {"Tiny": rows.Row(images, "vdsr", published)})
        output = tmp_path / "page.md"
        monkeypatch.setattr(sys, "argv", ["x", "--data", str(tmp_path / "sets"), "-o", str(output)])
        return rows.main(), output.read_text()

    return run


def test_a_row_is_reproduced_or_missed_by_what_is_measured(page):
    code, text = page(((99.0, 0.5),) * 3)
    measured = [tuple(map(float, pair)) for pair in re.findall(r"([0-9.]+) / ([0-9.]+) \| [+-]", text)]
    assert code == 1 and text.count("**missed**") == len(measured) == 3
    code, text = page(tuple((psnr + 0.009, ssim - 0.0009) for psnr, ssim in measured))
    assert code == 0 and text.count("| reproduced |") == 3
    code, text = page((*measured[:2], (measured[2][0], measured[2][1] + 0.0011)))
    assert code == 1 and text.count("| reproduced |") == 2


def test_a_folder_without_sets_is_refused_and_the_page_stays(page, picture, tmp_path):
    _, text = page(((99.0, 0.5),) * 3)
    (tmp_path / "sets" / "Tiny").rename(tmp_path / "sets" / "Other")
    with pytest.raises(SystemExit, match="has none of Tiny in it"):
        page(((99.0, 0.5),) * 3)
    assert (tmp_path / "page.md").read_text() == text


def test_a_part_of_a_set_is_not_compared(page):
    code, text = page(((99.0, 0.5),) * 3, images=2)
    assert code == 0 and text.count("1 of 2 pictures at hand: not compared") == 3 and "missed" not in text
    _, others = text.split("## Not the published sets")
    assert len(re.findall(r"\| Tiny \| 1 \| x[234] \| `srcnn` \| [0-9.]+ / 0\.[0-9]{5} \|", others)) == 3


def test_a_set_without_a_published_row_has_rows_of_its_own(page, picture, tmp_path):
    _, text = page(((99.0, 0.5),) * 3)
    assert "Not the published sets" not in text
    part = tmp_path / "sets" / "Tiny_part"
    shutil.copytree(tmp_path / "sets" / "Tiny", part)
    edge = np.zeros((24, 28, 3), np.uint8)
    edge[:, 13:] = 255  # where `vdsr` would clip what `srcnn` does not
    files.write(part / "HR" / "a.png", files.Picture(edge))
    code, text = page(((99.0, 0.5),) * 3)
    compared, others = text.split("## Not the published sets")
    assert code == 1 and compared.count("**missed**") == 3 and "part" not in compared
    rows, hashes = others.split("## The pictures")
    assert "| Tiny |" not in rows
    for scale in (2, 3, 4):
        found = find_pictures(tmp_path / "sets", "Tiny_part", scale)
        (own,) = score_set([Model(BICUBIC, scale)], found, PROTOCOLS["srcnn"], name="")
        assert f"| Tiny_part | 1 | x{scale} | `srcnn` | {own.psnr:.4f} / {own.ssim:.5f} |" in rows
        assert f"| Tiny_part | x{scale} | 1 | {own.hr_sha256} |" in hashes
    assert hashes.count("| Tiny |") == 3
