"""The benchmarks as modules, and a picture for those that score."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from addersr.images import files

FOLDER = Path(__file__).parents[2] / "benchmarks"
MODULES = (
    "measure", "runtimes", "ops", "networks", "bits", "ablation_report", "ablation", "bicubic_rows", "light",
    "loading", "results_page", "results",
)  # fmt: skip


@pytest.fixture
def benchmarks(monkeypatch):
    """The scripts as modules, by the names that they import each other by."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import ablation
    import ablation_report
    import bicubic_rows
    import bits
    import light
    import loading
    import measure
    import networks
    import ops
    import results
    import runtimes

    modules = (
        ablation, ablation_report, bicubic_rows, bits, light, loading, measure, networks, ops, results, runtimes
    )  # fmt: skip
    yield SimpleNamespace(**{module.__name__: module for module in modules})
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture
def picture(tmp_path):
    """A small picture, the set Tiny in the folder sets."""
    path = tmp_path / "sets" / "Tiny" / "HR" / "a.png"
    path.parent.mkdir(parents=True)
    files.write(path, files.Picture(np.random.default_rng(0).integers(0, 256, (24, 28, 3), np.uint8)))
    return path
