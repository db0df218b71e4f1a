from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from addersr.page.networks import Networks
from addersr.page.run import MAX_PIXELS, Order, Run
from addersr.page.store import Store


@pytest.fixture
def networks(weights):
    return Networks([str(weights)], device="cpu")


@pytest.fixture
def network(networks):
    return networks.get("tiny", 2, "float32")


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    return Store(folder, 10**9)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as one_by_one:
        yield one_by_one


@pytest.fixture
def begin(networks, store, executor):
    """Make a run of pictures, and start it; the choices are those of `Order`."""

    def run(*pictures: Path, max_pixels: int = MAX_PIXELS, start: bool = True, **choices: object) -> Run:
        run = Run(networks, Order(pictures, "tiny", **choices), store, max_pixels)
        if start:
            run.start(executor)
        return run

    return run


@pytest.fixture
def held(network):
    """The network waits at its entrance; told to go on by `go`, `reached` when it is there."""

    class Held:
        go, reached, calls = Event(), Event(), 0

    def wait(_module, _inputs):
        Held.calls += 1
        Held.reached.set()
        assert Held.go.wait(60)

    hook = network.upscaler.model.head.register_forward_pre_hook(wait)
    yield Held
    Held.go.set()
    hook.remove()
