"""bits.py: PSNR of a model quantised more coarsely."""

import json
import sys

import pytest


@pytest.fixture
def bits_of(benchmarks, monkeypatch, tmp_path, picture):
    """Runs bits.py in 8 bits alone on one small picture, with some options changed."""
    monkeypatch.setattr(benchmarks.bits, "BITS", (8,))

    def run(changed):
        given = {"--model": "edsr_small_x2", "--calibrate": picture.parent, "--data": tmp_path / "sets"}
        given = given | {"--set": "Tiny", "--json": tmp_path / "bits.json"} | changed
        words = [str(word) for pair in given.items() for word in pair]
        monkeypatch.setattr(sys, "argv", ["bits.py", *words])
        benchmarks.bits.main()

    return run


def test_bits_writes_what_it_prints(bits_of, tmp_path, capsys):
    bits_of({})
    written = json.loads((tmp_path / "bits.json").read_text())
    assert written["model"] == "edsr_small_x2" and written["calibrated_on"] == 1
    rows = [(row["bits"], row["range"], f"{row['results'][0]['psnr']:.3f}") for row in written["rows"]]
    assert [row[:2] for row in rows] == [("float32", ""), ("8", "narrow"), ("8", "whole")]
    assert capsys.readouterr().out.splitlines()[2:] == [f"| {' | '.join(row)} |" for row in rows]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--model": "nonsense"}, "no weights are called 'nonsense'"),
        ({"--calibrate": "missing"}, "no such folder: missing"),
        ({"--set": "Other"}, "no set Other in"),
        ({"--limit": "0"}, "must be a whole number from 1, got '0'"),
        ({"--json": "missing/bits.json"}, "cannot write missing/bits.json"),
    ],
)
def test_bits_says_what_is_wrong(bits_of, tmp_path, capsys, changed, message):
    with pytest.raises(SystemExit) as ended:
        bits_of(changed)
    code, printed = ended.value.code, capsys.readouterr()
    if code == 2:  # argparse's
        assert message in printed.err
    else:  # a text, which Python prints before it exits with 1
        assert code.startswith("error: ") and message in code and "\n" not in code
    assert not printed.out and not (tmp_path / "bits.json").exists()
