"""The benchmark of loading: that it runs and what its ratios are of; nothing here is timed."""

import json
import sys
from pathlib import Path

import pytest


@pytest.fixture
def loading(monkeypatch):
    """benchmarks/loading.py as a module."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    for name in ("loading", "measure"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import loading

    yield loading
    for name in ("loading", "measure"):
        del sys.modules[name]


def test_ratios_are_of_the_step_on_one_batch(loading):
    seconds = {"batch": 1.0, "step, one batch reused": 4.0, "step, real loading": 5.0}
    assert loading.ratios(seconds) == {"loading_vs_reused": 1.25, "batch_vs_step": 0.25}


@pytest.mark.parametrize("workers", [0, 1])
def test_it_measures_the_recipes_step(loading, make_pictures, tmp_path, monkeypatch, capsys, workers):
    make_pictures("a", count=1), make_pictures("b", count=2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{preset: edsr_small_x2}}\ndata: {{patch: 5, batch_size: 3, num_workers: {workers}}}\n"
    )
    words = ["--config", recipe, "--preset", "edsr_tiny_x2", "--data", tmp_path / "a", tmp_path / "b"]
    words += ["--json", tmp_path / "out.json", "--repeats", 1, "--cache-dir", tmp_path / "cache"]
    monkeypatch.setattr(sys, "argv", ["loading.py", *map(str, words)])
    loading.main()
    written = json.loads((tmp_path / "out.json").read_text())
    assert [(row["name"], row["shape"]) for row in written["results"]] == [
        ("filling the cache, once, a picture", [3]),
        ("edsr_tiny_x2: batch", [3, 3, 5, 5]),
        ("edsr_tiny_x2: step, one batch reused", [3, 3, 5, 5]),
        ("edsr_tiny_x2: step, real loading", [3, 3, 5, 5]),
    ]
    assert all(row["ms"] > 0 for row in written["results"]) and min(written["ratios"].values()) > 0
    assert "loading_vs_reused" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_told_in_one_line(loading, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["loading.py", "--data", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"^error: there is no folder .*nowhere"):
        loading.main()
