"""How the page is started."""

import importlib
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from addersr import checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture
def app(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    return importlib.import_module("app")


def test_without_weights_it_says_so(app, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    assert app.main([]) == 1
    assert capsys.readouterr().err.startswith("app.py: error: no weights are shipped")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--model", "no_such_model"], 1),
        (["--device", "bananas"], 1),
        (["--host", "0.0.0.0"], 2),
        (["--host", "no name", "--no-auth"], 2),
        (["--auth", "@none"], 2),
    ],
)
def test_what_it_cannot_do_is_one_line(app, capsys, words, code):
    assert app.main(words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("app.py: error: ")


def test_a_port_that_is_taken_is_one_line(weights):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(ROOT / "app.py"), "--model", str(weights), "--port", str(port)]
        ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == f"app.py: error: port {port} is not free; choose another with --port N\n"


def test_its_files_are_for_its_user_alone(folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_with_auth_nothing_is_for_strangers(serve, tmp_path, photo):
    users = tmp_path / "users"
    users.write_text("ann:secret\n")
    with serve("--auth", f"@{users}") as (address, _), httpx.Client(base_url=address, timeout=60) as stranger:
        with photo.open("rb") as file:
            assert stranger.post("gradio_api/upload", files={"files": file}).status_code == 401
        assert stranger.get("config").status_code == 401
        call = {"data": [[], "tiny", 2, "float32", False]}
        assert stranger.post("gradio_api/call/upscale", json=call).status_code == 401
        wrong = {"username": "ann", "password": "guess"}
        assert stranger.post("login", data=wrong).status_code == 400
        right = {"username": "ann", "password": "secret"}
        assert stranger.post("login", data=right).status_code == 200
        assert stranger.get("config").status_code == 200


def test_the_example_in_the_readme(serve, weights, tmp_path):
    """It is run as it stands, but for the address."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"(    from gradio_client import .*?)\n\n(?!    )", readme, re.DOTALL)
    program = "\n".join(line[4:] for line in example.splitlines())
    assert "http://127.0.0.1:7860" in program
    shutil.copytree(ROOT / "data" / "samples", tmp_path / "data" / "samples")
    with serve() as (address, _):
        program = program.replace("http://127.0.0.1:7860", address)
        ran = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=600
        )
    assert ran.returncode == 0, ran.stderr
    assert "rocket" in ran.stdout
