from pathlib import Path

import pytest

from addersr.page.networks import Networks
from addersr.page.run import Limits, Order, Run


@pytest.fixture
def networks(weights):
    return Networks([str(weights)], device="cpu")


@pytest.fixture
def network(networks):
    return networks.get("tiny", 2, "float32")


@pytest.fixture
def begin(networks, tmp_path):
    """Make a run of pictures, and start it; the choices are those of `Order`."""
    count = 0

    def run(*pictures: Path, limits: Limits | None = None, start: bool = True, **choices: object) -> Run:
        nonlocal count
        count += 1
        folder = tmp_path / "page" / str(count)
        folder.mkdir(parents=True)
        order = Order(pictures, "tiny", **choices)
        run = Run(networks, order, folder, limits or Limits())
        if start:
            run.start()
        return run

    return run
