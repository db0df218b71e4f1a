"""The tests of the native kernels under each instruction set that this processor has, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from addersr.ops import cpu

FILES = ("test_adder2d.py", "test_int8.py", "test_fused.py", "test_unit.py", "test_native16.py")

ELSEWHERE = ("reference", "opcheck")
"""Words in the names of tests that have nothing to do with the instruction set."""

RUN = """
import os, sys
import pytest
from addersr.ops import cpu
if reason := cpu.unavailable_reason():
    sys.exit("cannot run: " + reason)
if cpu.instruction_set() != os.environ["ADDERSR_ISA"]:
    sys.exit(f"forced {os.environ['ADDERSR_ISA']}, but {cpu.instruction_set()} is in use")
sys.exit(pytest.main(sys.argv[1:]))
"""


NEEDED = {"avx512": "avx512f avx512dq avx512bw avx512_vnni", "avx2": "avx2 fma f16c", "portable": ""}
"""What the processor needs for each, by Linux's names (csrc/interface.cpp)."""


def processor_has(instructions: str) -> bool:
    """As the system sees it; where it does not say, only the portable ones are known to run."""
    listed = Path("/proc/cpuinfo")
    flags = listed.read_text().split() if listed.exists() else []
    return set(NEEDED[instructions].split()) <= set(flags)


@pytest.mark.skipif(cpu.unavailable_reason() is not None, reason="no compiled kernels")
@pytest.mark.parametrize("instructions", ["avx512", "avx2", "portable"])
def test_native_kernels(instructions: str) -> None:
    """All of them run, none is skipped."""
    chosen = " and ".join(f"not {word}" for word in ELSEWHERE)
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    command = [sys.executable, "-c", RUN, "-q", "-p", "no:cacheprovider", "-k", chosen, *files]
    environment = {**os.environ, "ADDERSR_ISA": instructions}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.stderr.startswith("cannot run: ") and not processor_has(instructions):
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stdout + result.stderr
    *_, summary = result.stdout.splitlines()
    assert "passed" in summary and "skipped" not in summary, summary


def test_an_instruction_set_that_there_is_not() -> None:
    environment = {**os.environ, "ADDERSR_ISA": "avx9000"}
    result = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "avx9000" in result.stderr
