"""Names of files on a terminal."""

import sys

import pytest

from addersr.printable import printable


def test_no_character_breaks_the_line_or_steers_the_terminal():
    """ECMA-48's controls are C0, DEL and C1; marks of direction are Unicode's, UAX 9."""
    shown = printable("".join(map(chr, range(sys.maxunicode + 1))))
    assert len(shown.splitlines()) == 1
    assert not {*map(chr, range(32)), *map(chr, range(127, 160))} & set(shown)
    assert not {*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F))} & set(shown)
    shown.encode("utf-8")  # no halves of characters


@pytest.mark.parametrize(
    "text", ["", "a b  c.png", r"C:\new\a.png", "Söhne 写真\u3000カメラ 👩\u200d👧 می\u200cکنم"]
)
def test_what_people_write_stays(text):
    assert printable(text) == text


def test_escapes_are_those_of_python():
    assert printable("a\n\x1b[31m\u202e\udc80.png") == r"a\n\x1b[31m\u202e\udc80.png"
