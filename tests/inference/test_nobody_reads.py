"""`addersr upscale` whose standard output or error is closed, or has lost its reader: the work is done all the same."""

import subprocess
import sys

import pytest
from command_line import contents

from addersr.images import files


@pytest.fixture
def shell(tmp_path, model, make_picture):
    """shell(words, behind) runs `addersr upscale` words in a shell, with this behind it; its result, and that code."""
    for name in ("a.png", "b.png", "c.png"):
        make_picture(tmp_path / "in" / name)

    def run(words, behind):
        command = f"{sys.executable} -m addersr.cli upscale in {words} --model {model}"
        script = f"{{ {command}; echo $? > code; }} {behind}"
        result = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
        return result, int((tmp_path / "code").read_text())

    return run


@pytest.mark.parametrize(
    ("words", "behind", "code"),
    [
        ("", "| head -c 1", 0),
        ("missing.png", "2>&1 | true", 1),
        ("", ">&- 2>&-", 0),
        ("missing.png -q", "2>&-", 1),
    ],
)
def test_the_work_is_finished_and_the_exit_code_is_its_own(tmp_path, shell, words, behind, code):
    """Nor are errors led to standard output where standard error is closed."""
    result, got = shell(f"{words} -o out" + " -v" * ("-q" not in words), behind)
    assert (got, result.stderr) == (code, "")
    assert "error" not in result.stdout
    assert contents(tmp_path / "out") == ["a.png", "b.png", "c.png"]
    for name in contents(tmp_path / "out"):
        assert files.read(tmp_path / "out" / name).pixels.shape == (24, 20, 3)


@pytest.mark.parametrize(
    ("words", "behind", "code", "told"),
    [
        ("-o -", ">&-", 2, "-o -: standard output is closed; lead it"),
        ("-o -", "| true", 1, "cannot be written: Broken pipe"),
        ("-o out --dry-run", "| true", 1, ""),
    ],
)
def test_where_standard_output_is_the_result(tmp_path, shell, words, behind, code, told):
    for name in ("b.png", "c.png"):
        (tmp_path / "in" / name).unlink()
    result, got = shell(words, behind)
    assert got == code and told in result.stderr and "Traceback" not in result.stderr
    assert all(line.startswith(("addersr: error: ", "0 written")) for line in result.stderr.splitlines())
