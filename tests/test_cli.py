"""The command line's frame: exit codes, one-line errors, help, info."""

import os
import subprocess
import sys

import pytest

from addersr import __version__, cli


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "addersr.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_version_and_help() -> None:
    assert run("--version").stdout == f"addersr {__version__}\n"
    listed = run("--help").stdout
    assert all(name in listed for name in (*cli.COMMANDS, *cli.TRAINING))


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_each_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0 and f"addersr {command}" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "COMMAND (see `addersr --help`)"),
        (["enlarge"], "choose from 'upscale'"),
        (["upscale"], "INPUT, -o/--output (see `addersr upscale --help`)"),
        (
            ["upscale", "x", "-o", "y", "--tile", "fo\no"],
            "must be auto or a whole number from 1, got 'fo\\no'",
        ),
        (["upscale", "x", "-o", "y", "--some\nthing"], "unrecognized arguments: --some thing"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(words: list[str], message: str) -> None:
    result = run(*words)
    assert result.returncode == 2 and message in result.stderr
    assert result.stderr.startswith("addersr: error: ") and result.stderr.count("\n") == 1


def test_errors_are_one_line(tmp_path: object) -> None:
    result = run("upscale", "missing.png", "-o", f"{tmp_path}/out", "--model", "nonsense")
    assert result.returncode == 1
    assert result.stderr.startswith("addersr: error: ") and result.stderr.count("\n") == 1


def test_info_says_what_runs_and_why_others_do_not() -> None:
    told = run("info").stdout
    assert "reference  available" in told and "edsr_small_x2" in told
    told = run("info", ADDERSR_ISA="sse9").stdout
    assert (
        "native     unavailable: ADDERSR_ISA=sse9 names an instruction set" in told
        or "no compiled kernels" in told
    )


def test_names_from_outside_do_not_break_the_line(tmp_path: object) -> None:
    result = run("upscale", "a\nb.png", "-o", f"{tmp_path}/out", "--model", "x" * 300)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("addersr: error: ") and "no such file" in result.stderr
