import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client

from addersr.images import files
from addersr.images.files import Picture

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def serve(weights, tmp_path_factory):
    """Run `python app.py` with options on a port of the system's choice; gives (address, folder of its files)."""

    @contextmanager
    def run(*options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        temporary = tmp_path_factory.mktemp("temporary")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GRADIO_")}
        environment["TMPDIR"] = str(temporary)
        environment["GRADIO_HEARTBEAT_INTERVAL"] = "1"  # seconds until a client that has gone is missed
        command = [
            sys.executable,
            str(ROOT / "app.py"),
            "--model",
            str(weights),
            "--port",
            str(port),
            *options,
        ]
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env=environment, cwd=elsewhere, text=True
        ) as process:
            try:
                assert f"http://127.0.0.1:{port}" in process.stdout.readline()
                (folder,) = temporary.glob("addersr-page-*")
                yield f"http://127.0.0.1:{port}/", folder
            finally:  # else a test that fails would wait for it for ever
                process.terminate()
            assert process.wait(300) == 0
        assert list(temporary.glob("addersr-page-*")) == []
        assert list(elsewhere.iterdir()) == []

    return run


@pytest.fixture(scope="session")
def running(serve):
    with serve() as address_and_folder:
        yield address_and_folder


@pytest.fixture
def address(running):
    return running[0]


@pytest.fixture
def folder(running):
    return running[1]


@pytest.fixture
def connect(tmp_path):
    """connect(address) is a client that has patience with a busy machine, connect(address, folder) with its own."""
    clients = []

    def connect(address, folder=tmp_path / "downloads"):
        clients.append(Client(address, verbose=False, download_files=folder, httpx_kwargs={"timeout": 300}))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(address, connect):
    return connect(address)


@pytest.fixture
def large(tmp_path):
    """A picture that takes long: in eight views, at x4, on one core a minute."""
    path = tmp_path / "large.png"
    files.write(path, Picture(np.zeros((1200, 1200, 3), np.uint8)))
    return path
