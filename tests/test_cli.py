"""The command line's frame: exit codes, one-line errors, help, info."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from addersr import __version__, cli
from addersr.checkpoint import SHIPPED
from addersr.images import files

SAMPLES = Path(__file__).parents[1] / "data" / "samples"


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
        (
            ["bench", "--data", "x", "--set", "y", "--precision", "int4"],
            "argument --precision: invalid choice",
        ),
        (["quantize", "--model", "x", "--data", "y"], "-o/--output (see `addersr quantize --help`)"),
        (
            ["quantize", "--model", "x", "--data", "y", "-o", "z", "--bits", "9"],
            "argument --bits: invalid choice",
        ),
        (["upscale", "x", "-o", "y", "--prec", "int8"], "--prec int8 (see `addersr upscale --help`)"),
        (["upscale", "x", "-o", "y", "--some\nthing"], r"unrecognized arguments: --some\nthing"),
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
    assert "reference  available" in told
    assert re.search(r"edsr_small_x2 +x2, float32, 0\.20 M parameters", told)
    told = run("info", ADDERSR_ISA="sse9").stdout
    assert (
        "native     unavailable: ADDERSR_ISA=sse9 names an instruction set" in told
        or "no compiled kernels" in told
    )


def test_names_from_outside_do_not_break_the_line(tmp_path: object) -> None:
    result = run("upscale", "a\nb.png", "-o", f"{tmp_path}/out", "--model", "x" * 300)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("addersr: error: ") and "no such file" in result.stderr


def test_quantised_weights_from_the_command_line(tmp_path: Path) -> None:
    """Made, used, and told from float32 ones."""
    folder, weights = tmp_path / "pictures", tmp_path / "int8.safetensors"
    folder.mkdir()
    shutil.copy(SAMPLES / "coffee.png", folder)
    made = run("quantize", "--model", "edsr_small_x2", "--data", str(folder), "-o", str(weights))
    assert made.returncode == 0 and made.stdout.startswith(
        f"{weights}: edsr_small_x2 in 8 bits (narrow ranges)"
    )
    picture = tmp_path / "small.png"
    files.write(picture, files.Picture(files.read(folder / "coffee.png").pixels[:40, :50]))

    def upscale(model: object, precision: str) -> subprocess.CompletedProcess[str]:
        out = str(tmp_path / "out") + os.sep
        options = (
            "--model",
            str(model),
            "--precision",
            precision,
            "--device",
            "cpu",
            "--overwrite",
        )
        return run("upscale", str(picture), "-o", out, *options)

    assert upscale(weights, "int8").returncode == 0
    assert files.read(tmp_path / "out" / "small.png").pixels.shape == (80, 100, 3)
    for model, precision, message in (
        (weights, "float32", "is quantised to int8"),
        (SHIPPED / "edsr_small_x2.safetensors", "int8", "quantise it: addersr quantize --model"),
    ):
        refused = upscale(model, precision)
        assert refused.returncode == 1 and message in refused.stderr and refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a", "-o", "out", "b", "c"], ["a", "b", "c"]),
        (["-o", "out", "a", "b"], ["a", "b"]),
        (["a", "-r", "-o", "out", "-"], ["a", "-"]),
        (["a", "-o", "out", "--", "b"], ["a", "b"]),
        (["a", "-o", "out", "b", "--", "-b.png"], ["a", "b", "-b.png"]),
        (["-o", "out", "--", "-b.png"], ["-b.png"]),
    ],
)
def test_inputs_may_stand_before_and_behind_the_options(
    words: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("addersr.inference.command.run", lambda args: seen.extend(args.inputs) or 0)
    assert cli.main(["upscale", *words]) == 0
    assert seen == expected
    with pytest.raises(SystemExit):
        cli.main(["upscale", "--wrong", *words])
    with pytest.raises(SystemExit):
        cli.main(["info", "b"])
