"""loading.py: steps of a recipe on real batches and on one and the same."""

import itertools
import json
import sys
import time

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
    """Seen in the medians of a run, by the recipe's optimiser."""
    stepped = []
    step = AdderAdam.step
    monkeypatch.setattr(AdderAdam, "step", lambda *args, **kwargs: stepped.append(1) or step(*args, **kwargs))

    def slow():
        while True:
            time.sleep(0.2)
            yield batch

    recipe = {"trainer": {"gradient_clip_val": 0.4}, "ema": {"decay": 0.9}}
    seconds = benchmarks.loading.compare(recipe, SuperResolution("edsr_tiny_x2"), slow(), 0, 1)
    assert len(stepped) == 2 * 2 * (2 + benchmarks.loading.TIMED_STEPS)
    real, reused = seconds[benchmarks.loading.REAL], seconds[benchmarks.loading.REUSED]
    assert real > 0.2 and reused < real - 0.1


def test_it_writes_what_it_prints(benchmarks, monkeypatch, tmp_path, picture, capsys):
    recipe = {
        "model": {"preset": "edsr_small_x2"},
        "data": {"patch": 4, "batch_size": 2},
        "trainer": {"max_steps": 9999},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    given = {
        "config": tmp_path / "recipe.yaml",
        "preset": "edsr_tiny_x2",
        "data": picture.parent,
        "repeats": 1,
    }
    given |= {"json": tmp_path / "figures.json"}
    words = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["loading.py", *words])
    benchmarks.loading.main()
    written, printed = json.loads((tmp_path / "figures.json").read_text()), capsys.readouterr().out
    rows = {row["name"]: row for row in written["results"]}
    names = {
        f"edsr_tiny_x2: {name}" for name in ("batch", benchmarks.loading.REUSED, benchmarks.loading.REAL)
    }
    assert set(rows) == names | {"filling the cache, once, a picture"}
    for name in names:
        assert rows[name]["shape"] == [2, 3, 4, 4] and f"{rows[name]['ms']:9.3f} ms" in printed
    real, reused = (
        rows[f"edsr_tiny_x2: {getattr(benchmarks.loading, name)}"]["ms"] for name in ("REAL", "REUSED")
    )
    assert written["ratios"]["loading_vs_reused"] == pytest.approx(real / reused)
