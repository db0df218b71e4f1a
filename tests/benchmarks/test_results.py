"""results.py: the page that puts our networks beside published ones."""

import json
import sys
from pathlib import Path

import pytest

from addersr import checkpoint
from addersr.images import files


@pytest.fixture
def results(benchmarks, monkeypatch):
    """The script, for an output of 32x24 pixels."""
    monkeypatch.setattr(benchmarks.results, "OUTPUT", (24, 32))
    monkeypatch.setattr(benchmarks.results, "LR", (12, 16))
    return benchmarks.results


def test_it_writes_a_page_a_plot_and_the_figures(results, monkeypatch, tmp_path, picture, capsys):
    words = [
        "--data",
        tmp_path / "sets",
        "--set",
        "Tiny",
        "--model",
        "edsr_small_x2",
        "--model",
        "edsr_small_x2_int8",
    ]
    monkeypatch.setattr(sys, "argv", ["x", *map(str, words), "-o", str(tmp_path), "--repeats", "1"])
    results.main()
    page = (tmp_path / "results.md").read_text()
    assert capsys.readouterr().out.endswith(page + "\n")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    entries = {
        entry["name"]: entry for entry in json.loads((tmp_path / "results.json").read_text())["entries"]
    }
    ours, int8 = entries["edsr_small_x2"], entries["edsr_small_x2_int8"]
    assert ours["source"] is None and ours["ms"] > 0 and 0 < int8["mj"] < ours["mj"]
    psnr, ssim = ours["scores"]["Tiny"]
    score = f"{psnr:.2f} / {f'{ssim:.4f}'.removeprefix('0')}"
    energies = f"{ours['mj']:.1f} | {ours['total_mj']:.1f}"
    assert f"| **edsr_small_x2** | adder | {score} | {energies} | {ours['ms']:.0f} |" in page
    assert "--set Tiny --model edsr_small_x2 --model edsr_small_x2_int8 -o docs`" in page
    twin = entries["twin of edsr_small_x2_int8"]
    assert twin["kind"] == "convolutions, int8" and twin["scores"] == {} and twin["ms"] is None
    assert int8["mj"] < twin["mj"] and int8["total_mj"] > twin["total_mj"]
    both = f"{int8['total_mj']:.1f} and {twin['total_mj']:.1f}: the adder network takes more than the twin"
    assert both in page
    timed = {name for name, entry in entries.items() if entry["source"] and entry["ms"]}
    assert timed == {"VDSR", "EDSR-baseline", "SRCNN", "FSRCNN", "CARN", "CARN-M"}


def test_the_page_is_made_anew_of_its_figures(benchmarks, monkeypatch, tmp_path):
    """Those of docs/: the page is theirs, and its energies are those that are counted."""
    results = benchmarks.results
    docs = Path(__file__).parents[2] / "docs"
    monkeypatch.setattr(sys, "argv", ["x", "--from", str(docs / "results.json"), "-o", str(tmp_path)])
    results.main()
    for name in ("results.json", "results.md"):
        assert (tmp_path / name).read_text() == (docs / name).read_text()
    drawn, shown = (files.read(folder / "results.png").pixels for folder in (tmp_path, docs))
    assert drawn.shape == shown.shape and drawn.std() > 0
    entries = {entry["name"]: entry for entry in json.loads((docs / "results.json").read_text())["entries"]}
    for name in ("edsr_small_x2", "edsr_small_x2_int8", "edsr_twin_small_x2"):
        for each in filter(None, results.counted(checkpoint.load(name))):
            assert (each.mj, each.total_mj) == pytest.approx(
                (entries[each.name]["mj"], entries[each.name]["total_mj"])
            )


def test_published_energies_are_of_the_networks_as_published(benchmarks):
    """Those that papers give for 1280x720: counted where this package has the network, or from their MACs."""
    found = {entry.name: entry.mj for entry in benchmarks.results.published()}
    expected = {"SRCNN": 52.7 * 4.6, "VDSR": 2818, "VDSR, adder": 1106, "EDSR": 43170, "EDSR, adder": 18437}
    assert {name: found[name] for name in expected} == pytest.approx(
        expected, abs=0.5
    )  # as far as they are printed


def test_what_is_not_there_is_told_in_a_line(results, monkeypatch, tmp_path, picture, capsys):
    base = {"--data": tmp_path / "sets", "--set": "Tiny", "--model": "edsr_small_x2", "-o": tmp_path}
    for changed, message in (
        ({"--model": "nonsense"}, "error: no weights are called 'nonsense'"),
        ({"--set": "Other"}, "error: no set Other"),
        ({"-o": tmp_path / "missing"}, "error: no folder"),
    ):
        words = [str(word) for pair in (base | changed).items() for word in pair]
        monkeypatch.setattr(sys, "argv", ["x", *words])
        with pytest.raises(SystemExit, match=message):
            results.main()
    (tmp_path / "other.json").write_text("{}")
    for before, message in (
        ("missing.json", "error: .*No such file"),
        ("other.json", "error: .* is not what"),
    ):
        monkeypatch.setattr(sys, "argv", ["x", "--from", str(tmp_path / before), "-o", str(tmp_path)])
        with pytest.raises(SystemExit, match=message):
            results.main()
    monkeypatch.setattr(sys, "argv", ["x", "-o", str(tmp_path)])
    with pytest.raises(SystemExit):
        results.main()
    assert "give --data and --model, or --from" in capsys.readouterr().err
