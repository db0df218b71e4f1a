"""`addersr upscale`, stopped in the middle of a write in each way there is, and started again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from addersr.cli import main
from addersr.images import files

NAMES = ["a.png", "b.png", "c.png", "d.png"]

RUN = """
import signal, sys, threading
from pathlib import Path

link, install, told = Path.hardlink_to, signal.signal, threading.Event()

def install_noting(number, handler):
    def noting(*args):
        told.set()
        return handler(*args)

    return install(number, noting if callable(handler) else handler)

signal.signal = install_noting
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it runs in the background
from addersr.cli import main
from addersr.inference import batch

def link_late(self, target):
    if self.name == "b.png":
        print("writing", flush=True)
        told.wait(300)
    link(self, target)
    if self.name == "c.png":
        print("renamed", flush=True)
        told.wait(300)

Path.hardlink_to = link_late
standard_input = batch._standard_input

def tell():
    print("reading", flush=True)
    return standard_input()

batch._standard_input = tell
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def words(tmp_path, weights, make_picture):
    for name in NAMES:
        make_picture(tmp_path / "in" / name)
    report = ["--report", str(tmp_path / "report.jsonl"), "--model", str(weights[2])]
    return ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--skip-existing", *report]


def start(words, until="writing\n"):
    """The command in a process of its own, once it is writing b.png, which it does until a signal is handled."""
    command = [sys.executable, "-c", RUN, *words]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == until, process.communicate()
    return process


def finished(folder):
    """The names of all files, hidden ones too; each result can be read."""
    names = sorted(os.listdir(folder))
    for name in names:
        if not name.startswith("."):
            assert files.read(folder / name).pixels.shape == (24, 20, 3)
    return names


def lines(tmp_path, status):
    """The pictures of the report's lines with this status."""
    told = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    return [line["input"].rsplit("/")[-1] for line in told if line["status"] == status]


def written(tmp_path):
    return lines(tmp_path, "written")


def test_killed_and_started_again(tmp_path, words):
    with start(words) as process:
        process.kill()
    left = finished(tmp_path / "out")
    assert left[1:] == ["a.png"] and left[0].startswith(".addersr-")
    assert main(words) == 0
    assert finished(tmp_path / "out") == NAMES
    assert written(tmp_path) == NAMES


def test_killed_between_a_result_and_its_line(tmp_path, words):
    (tmp_path / "in" / "b.png").unlink()
    with start(words, "renamed\n") as process:
        process.kill()
    # The result's first name, beside its own, is still there, too.
    assert finished(tmp_path / "out")[1:] == ["a.png", "c.png"] and written(tmp_path) == ["a.png"]
    assert main(words) == 0
    assert finished(tmp_path / "out") == ["a.png", "c.png", "d.png"]
    assert (written(tmp_path), lines(tmp_path, "skipped")) == (["a.png", "d.png"], ["a.png", "c.png"])


@pytest.mark.parametrize(
    ("number", "code", "message"), [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, "addersr: interrupted\n")]
)
def test_told_to_stop_and_started_again(tmp_path, words, number, code, message):
    with start(words) as process:
        process.send_signal(number)
        told, errors = process.communicate()
    assert (process.returncode, errors) == (code, message)
    done = finished(tmp_path / "out")
    assert done == NAMES[:2] == written(tmp_path)
    assert told.startswith("2 written to ")
    assert main(words) == 0
    assert finished(tmp_path / "out") == written(tmp_path) == NAMES


def test_ctrl_c_while_it_waits_for_standard_input(tmp_path, weights):
    words = ["upscale", "-", "-o", str(tmp_path / "out.png"), "--model", str(weights[2])]
    with start(words, "reading\n") as process:
        time.sleep(0.1)  # until it waits
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == "addersr: interrupted\n"
    assert os.listdir(tmp_path) == []
