"""Lines for people that nobody may be there to read."""

import io
import os
import subprocess
import sys

import pytest

from addersr.telling import tell


def test_names_are_made_safe_and_a_line_comes_at_once(tmp_path):
    with (tmp_path / "told").open("w") as stream:
        tell("a\x1b\nb", stream)
        assert (tmp_path / "told").read_text() == "a\\x1b\\nb\n"


def test_a_closed_stream_takes_nothing(capsys):
    tell("told", None)
    assert capsys.readouterr().out == ""


def test_a_stream_of_no_file_may_fail_too():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    tell("told", Full())


def test_a_line_is_written_at_once_where_python_buffers_nothing():
    """As with PYTHONUNBUFFERED: another process on the same terminal could write between two parts."""

    class Unbuffered(io.RawIOBase):
        def __init__(self):
            self.writes = []

        def writable(self):
            return True

        def write(self, data):
            self.writes.append(bytes(data))
            return len(data)

    raw = Unbuffered()
    tell("told", io.TextIOWrapper(raw, write_through=True))
    assert raw.writes == [b"told\n"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_where_nobody_reads_the_program_goes_on_and_its_exit_code_stays(stream):
    code = f"import sys; from addersr.telling import tell; [tell('x' * 999, sys.{stream}) for _ in range(99)]; exit(7)"
    reader, writer = os.pipe()
    os.close(reader)
    other = "stderr" if stream == "stdout" else "stdout"
    given = {stream: writer, other: subprocess.PIPE}
    result = subprocess.run([sys.executable, "-c", code], **given)
    os.close(writer)
    assert result.returncode == 7 and not getattr(result, other)
