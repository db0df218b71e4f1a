"""Several processes on one batch, in each way they are started: by `--devices`, by torchrun, by SLURM.

Results wait at gates: a process that is about to give a result its name tells so, and waits until the test opens. That
SIGTERM has been handled is told by a file, too.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from addersr.cli import main

NAMES = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]  # in turn of the first and the second process
PATIENCE = 300  # seconds before a test gives up

GATES = """
import os, signal, time
from pathlib import Path

rename, link = Path.replace, Path.hardlink_to

def wait_at(name):
    gate = Path(os.environ["GATES"], name)
    if gate.exists():
        rename(gate, gate.with_suffix(".reached"))
        while gate.with_suffix(".reached").exists():
            time.sleep(0.01)

def replace(self, target):
    wait_at(Path(target).name)
    return rename(self, target)

def hardlink_to(self, target):
    wait_at(self.name)
    return link(self, target)

Path.replace, Path.hardlink_to = replace, hardlink_to
install, rank = signal.signal, os.environ.get("LOCAL_RANK", "launcher")

def install_noting(number, handler):
    def noting(*args):
        if number == signal.SIGTERM:
            Path(os.environ["GATES"], f"told.{rank}").touch()
        return handler(*args)

    return install(number, noting if callable(handler) else handler)

signal.signal = install_noting

wait_at("start." + rank)
"""
"""Python runs it when it starts, as its sitecustomize module."""

BY_SLURM = """
import os, sys
import addersr.inference.distributed  # once for both
from addersr.cli import main

children = []
for rank in "01":
    if not (child := os.fork()):
        os.environ |= {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        sys.exit(main(sys.argv[1:]))
    children.append(child)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


class Gates:
    def __init__(self, folder):
        self.folder = folder

    def shut(self, *names):
        for name in names:
            (self.folder / name).touch()

    def wait_for(self, *names):
        wait_until(lambda: all((self.folder / name).with_suffix(".reached").exists() for name in names))

    def open(self, name):
        (self.folder / name).with_suffix(".reached").unlink()


def wait_until(condition):
    last = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)


@pytest.fixture
def gates(tmp_path, monkeypatch):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(GATES)
    monkeypatch.setenv("PYTHONPATH", str(hooks), prepend=os.pathsep)
    monkeypatch.setenv("GATES", str(hooks))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a convolution may sum in another order with more
    here = tmp_path / "here"
    here.mkdir()
    (here / "random.py").write_text("raise SystemExit('it runs what lies beside the pictures')")
    monkeypatch.chdir(here)
    return Gates(hooks)


@pytest.fixture
def words(tmp_path, weights, make_picture):
    for name in NAMES:
        make_picture(tmp_path / "in" / name)
    return ["upscale", str(tmp_path / "in"), "--model", str(weights[2])]


@pytest.fixture
def one_process(tmp_path, words):
    """The files that one process makes, by name."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main([*words, "-o", str(tmp_path / "alone"), "--quiet"]) == 0
    finally:
        torch.set_num_threads(threads)
    return {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}


def start(*command):
    """Python with what lies in the current folder left alone, as a command that is installed leaves it."""
    return subprocess.Popen(
        [sys.executable, "-P", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def written(*reports):
    """The names of the results that were written, one for each line that says so."""
    lines = [json.loads(line) for report in reports for line in report.read_text().splitlines()]
    return [Path(line["output"]).name for line in lines if line["status"] == "written"]


def child_of(process, rank):
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    of_rank = f"LOCAL_RANK={rank}".encode()
    (found,) = [pid for pid in children if of_rank in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
    return int(found)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="--devices 2 is refused on one processor")
def test_one_is_killed_and_the_other_goes_on(tmp_path, gates, words, one_process, capsys):
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    words += ["-o", str(out), "--report", str(report), "--skip-existing"]
    gates.shut("c.png", "d.png")
    with start("-m", "addersr.cli", *words, "--devices", "2") as process:
        gates.wait_for("c.png", "d.png")
        os.kill(child_of(process, 1), signal.SIGKILL)  # with a half-written d.png
        time.sleep(0.5)
        gates.open("c.png")
        told, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert told == f"process 1 of 2: 3 written to {out} (x2, tiny_x2)\n"
    assert errors == (
        "addersr: error: of 2 processes died: number 2 (SIGKILL); the same command with --skip-existing completes what "
        "they left\n"
    )
    left = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
    assert sorted(left) == ["a.png", "b.png", "c.png", "e.png"]
    reports = [report.with_name(f"report.{rank}.jsonl") for rank in range(2)]
    assert [written(part) for part in reports] == [["a.png", "c.png", "e.png"], ["b.png"]]

    before = {name: (out / name).stat().st_mtime_ns for name in left}
    assert main(words) == 0
    assert capsys.readouterr().out == f"2 written to {out} (x2, tiny_x2), 4 were there already\n"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == one_process
    assert {name: (out / name).stat().st_mtime_ns for name in left} == before
    assert sorted(written(report, *reports)) == NAMES


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="--devices 2 is refused on one processor")
def test_one_dies_before_the_work_begins_and_all_end(tmp_path, gates, words, monkeypatch):
    """In surroundings that would have this machine wait for another."""
    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "192.0.2.1")
    gates.shut("start.1")
    with start("-m", "addersr.cli", *words, "-o", str(tmp_path / "out"), "--devices", "2") as process:
        gates.wait_for("start.1")
        os.kill(child_of(process, 1), signal.SIGKILL)
        told, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told) == (1, "")
    assert errors == (
        "addersr: error: of 2 processes died before the work began: number 2 (SIGKILL); run it again\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="--devices 2 is refused on one processor")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_the_launcher_is_ended_and_each_process_completes_its_picture(
    tmp_path, gates, words, one_process, number, code
):
    out = tmp_path / "out"
    gates.shut("a.png", "b.png")
    with start("-m", "addersr.cli", *words, "-o", str(out), "--devices", "2") as process:
        gates.wait_for("a.png", "b.png")
        process.send_signal(number)
        wait_until(lambda: all((gates.folder / f"told.{rank}").exists() for rank in (0, 1)))
        gates.open("a.png")
        gates.open("b.png")
        told, errors = process.communicate(timeout=PATIENCE)  # until all have closed them
    assert (process.returncode, errors) == (code, "")
    assert sorted(told.splitlines()) == [
        f"process {rank} of 2: 1 written to {out} (x2, tiny_x2)" for rank in (1, 2)
    ]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        name: one_process[name] for name in ("a.png", "b.png")
    }


def test_torchrun_does_not_end_the_others_when_a_picture_fails(tmp_path, gates, words, one_process):
    """It ends all at the first exit code that is not 0."""
    out = tmp_path / "out"
    (tmp_path / "in" / "b.png").write_text("no picture")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    installed = str(Path(sys.executable).with_name("addersr"))
    gates.shut("a.png")
    with start(*torchrun, installed, *words, "-o", str(out)) as process:
        gates.wait_for("a.png")
        assert process.stdout.readline() == f"process 2 of 2: 2 written to {out} (x2, tiny_x2), 1 failed\n"
        time.sleep(1)
        gates.open("a.png")
        told, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert told == f"process 1 of 2: 3 written to {out} (x2, tiny_x2)\n"
    assert "addersr: error: " in errors and "b.png" in errors
    results = {path.name: path.read_bytes() for path in out.iterdir()}
    assert results == {name: one_process[name] for name in NAMES if name != "b.png"}


def test_what_stops_all_is_told_once(tmp_path, monkeypatch, words):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    slurm = {"NTASKS": 2, "NTASKS_PER_NODE": 2, "NNODES": 1, "NODEID": 0, "STEP_ID": 0, "JOB_ID": 7, "JOB_NAME": "test",
             "NODELIST": "127.0.0.1"}  # fmt: skip
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    with start("-c", BY_SLURM, *words[:-1], "no_such_model", "-o", str(tmp_path / "out")) as process:
        told, errors = process.communicate(timeout=PATIENCE)
    assert told == "1 1\n", errors
    assert errors.startswith("addersr: error: ") and "no_such_model" in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "-o", "-"], "standard input and output, -, are for one process; name files, or leave --devices out"),
        (["-", "-o", "out"], "standard input and output, -, are for one process"),
        (["a.png", "-o", "out", "--device", "cuda:1"], "--device cuda:1: several processes take auto, cpu or cuda"),
        (["a.png", "-o", "out", "--device", "cpu", "--devices", "1000"], "--devices 1000: too many, the processors"),
        (["a.png", "-o", "out", "--num-nodes", "2"], "--num-nodes 2: start it by torchrun or srun, or set MASTER_ADDR, "
         "MASTER_PORT, NODE_RANK on each one"),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_is_refused(capsys, words, message):
    assert main(["upscale", "--devices", "2", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and message in printed.err


def test_a_pipe_cannot_be_shared(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.png")
    words = ["upscale", str(tmp_path / "pipe.png"), "-o", str(tmp_path / "out"), "--devices", "2"]
    assert main(words) == 2
    message = f"{tmp_path / 'pipe.png'}: a pipe is for one process; name a file, or leave --devices out"
    assert message in capsys.readouterr().err


def test_a_dry_run_needs_one_process(tmp_path, capsys, words, monkeypatch):
    words += ["-o", str(tmp_path / "out"), "--dry-run"]
    assert main([*words, "--devices", "2"]) == 0
    assert capsys.readouterr().out.count(" -> ") == 2 * len(NAMES)
    torchrun = {"RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in torchrun.items():
        monkeypatch.setenv(f"TORCHELASTIC_{name}" if name == "RUN_ID" else name, value)
    assert main(words) == 2
    assert "--dry-run needs one process" in capsys.readouterr().err
