"""loading.py: steps of a recipe on real batches and on one and the same; nothing here is timed."""

import itertools
import json
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml

from addersr.data.pairs import Batch
from addersr.training.optimizer import AdderAdam
from addersr.training.system import SuperResolution


@pytest.fixture
def batch():
    return Batch(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 8, 8))


def test_blocks_of_real_batches_and_of_the_first_take_turns(benchmarks):
    turns = benchmarks.loading.Turns(iter(range(100)), 3)
    assert list(itertools.islice(turns, 12)) == [1, 2, 3, 0, 0, 0, 4, 5, 6, 0, 0, 0]


def test_what_a_batch_is_waited_for_counts_for_real_loading_alone(benchmarks, batch, monkeypatch):
    """By a clock that only batches and the steps of the recipe's optimiser move on."""
    now, steps, step = 0.0, 0, AdderAdam.step

    def slow():
        nonlocal now
        while True:
            now += 1
            yield batch

    def slow_step(*args, **kwargs):
        nonlocal now, steps
        now, steps = now + 4, steps + 1
        return step(*args, **kwargs)

    monkeypatch.setattr(AdderAdam, "step", slow_step)
    monkeypatch.setattr(benchmarks.loading, "time", SimpleNamespace(perf_counter=lambda: now))
    recipe = {"trainer": {"gradient_clip_val": 0.4}, "ema": {"decay": 0.9}}
    seconds = benchmarks.loading.compare(recipe, SuperResolution("edsr_tiny_x2"), slow(), 0, 1)
    assert steps == 2 * 2 * (2 + benchmarks.loading.TIMED_STEPS)
    assert seconds == {benchmarks.loading.REAL: 5, benchmarks.loading.REUSED: 4}


def test_ratios_are_of_the_step_on_one_batch(benchmarks):
    seconds = {"batch": 1.0, "step, one batch reused": 4.0, "step, real loading": 5.0}
    assert benchmarks.loading.ratios(seconds) == {"loading_vs_reused": 1.25, "batch_vs_step": 0.25}


@pytest.mark.parametrize("workers", [0, 1])
def test_it_writes_what_it_prints(benchmarks, monkeypatch, tmp_path, picture, capsys, workers):
    recipe = {
        "model": {"preset": "edsr_small_x2"},
        "data": {"patch": 4, "batch_size": 2, "num_workers": workers},
        "trainer": {"max_steps": 9999},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.png").write_bytes(picture.read_bytes())
    words = [
        "--config",
        tmp_path / "recipe.yaml",
        "--preset",
        "edsr_tiny_x2",
        "--data",
        picture.parent,
        other,
    ]
    words += ["--json", tmp_path / "figures.json", "--repeats", 1, "--cache-dir", tmp_path / "cache"]
    monkeypatch.setattr(sys, "argv", ["loading.py", *map(str, words)])
    benchmarks.loading.main()
    written, printed = json.loads((tmp_path / "figures.json").read_text()), capsys.readouterr().out
    rows = {row["name"]: row for row in written["results"]}
    steps = {
        f"edsr_tiny_x2: {name}" for name in ("batch", benchmarks.loading.REUSED, benchmarks.loading.REAL)
    }
    filling = "filling the cache, once, a picture"
    assert set(rows) == steps | {filling} and rows[filling]["shape"] == [2]
    for name in steps:
        assert rows[name]["shape"] == [2, 3, 4, 4] and f"{rows[name]['ms']:9.3f} ms" in printed
    real, reused = (
        rows[f"edsr_tiny_x2: {getattr(benchmarks.loading, name)}"]["ms"] for name in ("REAL", "REUSED")
    )
    assert written["ratios"]["loading_vs_reused"] == pytest.approx(real / reused)


def test_a_folder_that_is_not_there_is_told_in_one_line(benchmarks, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["loading.py", "--data", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"^error: there is no folder .*nowhere"):
        benchmarks.loading.main()
