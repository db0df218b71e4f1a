"""ablation.py: trainings of two steps, resumed, scored and reported."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from addersr import checkpoint
from addersr.cli import main as addersr
from addersr.images import files
from addersr.training.system import SuperResolution


@pytest.fixture
def ablation_of(benchmarks, monkeypatch, tmp_path, picture):
    """Runs ablation.py, two steps of the twin of a tiny network, with some options changed."""
    for letter in "bc":
        picture.with_stem(letter).write_bytes(picture.read_bytes())

    def run(**changed):
        given = {"runs": tmp_path / "runs", "train-dirs": picture.parent, "holdout": "HR/a.*"}
        given |= {"data": tmp_path / "sets", "set": "Tiny", "preset": "edsr_tiny_x2", "rows": "twin"}
        given |= {"steps": 2, "every": 1, "seeds": 3, "patch": 4, "batch": 1, "threads": 1} | changed
        words = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
        monkeypatch.setattr(sys, "argv", ["ablation.py", *words])
        benchmarks.ablation.main()

    return run


class InThisProcess:
    """Stands for the process of a training, which takes ten seconds to start."""

    def __init__(self, words, **_):
        assert words[:4] == [sys.executable, "-P", "-m", "addersr.cli"]
        self.code = addersr(words[4:])

    def wait(self):
        return self.code


# As in tests/training: Lightning calls jsonargparse in ways that will be gone in that package's next version.
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_ablation_trains_scores_and_does_not_train_again(
    ablation_of, benchmarks, monkeypatch, tmp_path, capsys
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", InThisProcess)
        ablation_of(fit="trainer.accelerator=cpu")
    runs = tmp_path / "runs"
    written = json.loads((runs / "ablation.json").read_text())
    result = json.loads((runs / "twin" / "seed3.json").read_text())
    (told,) = written["rows"]["twin"]["seeds"]
    assert told["seed"] == result["seed"] == 3 and list(told["curve"]) == ["1", "2"]
    assert told["sets"]["Tiny"]["psnr"] == pytest.approx(result["sets"]["Tiny"]["psnr"], abs=1e-5)
    assert list(told["curve"].values()) == pytest.approx([y for _, y in result["curve"]], abs=1e-4)
    assert written["recipe"]["data.train_dirs"] == ["HR"] and str(tmp_path) not in json.dumps(written)
    assert (
        f"| convolutional twin | 0.006 M | 1 | {result['sets']['Tiny']['psnr']:.2f} / ."
        in (runs / "ablation.md").read_text()
    )
    assert files.read(runs / "ablation.png").pixels.std() > 0
    loaded = checkpoint.load(runs / "twin" / "seed3.safetensors")
    assert loaded.model.config["unit"] == "conv" and loaded.metadata["steps"] == 2

    monkeypatch.setattr(sys, "executable", "false")  # whoever trains now fails
    capsys.readouterr()
    ablation_of(fit="trainer.accelerator=cpu")
    assert capsys.readouterr().out == "twin, seed 3: done before\n"
    with pytest.raises(SystemExit, match=r"error: .*trainer.max_steps was 2 and is 9; choose another --runs"):
        ablation_of(fit="trainer.accelerator=cpu", steps=9)
    (runs / "twin" / "seed3.json").unlink()  # interrupted while it was scored
    ablation_of(fit="trainer.accelerator=cpu")
    assert json.loads((runs / "twin" / "seed3.json").read_text()) == result
    capsys.readouterr()
    with pytest.raises(SystemExit, match=r"error: 1 trainings failed, as said above: twin, seed 4"):
        ablation_of(fit="trainer.accelerator=cpu", seeds=4)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("twin, seed 4: addersr fit failed: exit code 1 ") and line.endswith("fit.log)")


class Told:
    """Stands for the process of a training, in which its parent is told to stop so many times."""

    started = ()
    signals = (signal.SIGTERM,)

    def __init__(self, words, *, start_new_session, **_):
        assert start_new_session  # what a terminal sends reaches the parent alone
        type(self).started += (words,)

    def terminate(self):
        type(self).started += ("terminated",)

    def kill(self):
        type(self).started += ("killed",)

    def wait(self):
        for number in self.signals:
            signal.raise_signal(number)
        return 143 if "terminated" in self.started else 1


@pytest.fixture
def told(monkeypatch):
    """told(signal, ...) makes trainings in which these come."""

    def told(*signals):
        child = type("Told", (Told,), {"signals": signals})
        monkeypatch.setattr(subprocess, "Popen", child)
        return child

    return told


@pytest.fixture
def heeded():
    """Signals have the handlers of a process that a terminal started, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_ablation_that_is_stopped_goes_on_from_its_checkpoint(ablation_of, tmp_path, told, heeded, number):
    child = told(number)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit, match="stopped; the same command goes on from here"):
        ablation_of()
    assert child.started[1:] == ("terminated",) and signal.getsignal(number) is before
    assert not [word for word in child.started[0] if "ckpt_path" in word]
    last = tmp_path / "runs" / "twin" / "seed3" / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    torch.save({"state_dict": {}, "global_step": 1}, last)
    with pytest.raises(SystemExit, match="stopped"):
        ablation_of()
    assert f"--ckpt_path={last}" in child.started[2]


def test_a_second_interrupt_ends_the_training_at_once(ablation_of, told, heeded, capsys):
    child = told(signal.SIGINT, signal.SIGINT)
    with pytest.raises(SystemExit, match="stopped"):
        ablation_of()
    assert child.started[1:] == ("terminated", "killed")
    assert capsys.readouterr().err.count("press Ctrl-C again to stop at once") == 1


def test_interrupts_that_are_ignored_stay_so(ablation_of, told, heeded, tmp_path):
    """As by a shell's background: Ctrl-C is for what is in front."""
    child = told(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    (tmp_path / "runs" / "twin" / "seed3").mkdir(parents=True)
    (tmp_path / "runs" / "twin" / "seed3" / "fit.log").write_text("the reason")
    with pytest.raises(SystemExit, match="1 trainings failed"):  # for its own reasons
        ablation_of()
    assert child.started[1:] == () and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_signal_while_the_training_starts_is_passed_on(ablation_of, told, heeded):
    child = told()
    original = child.__init__

    def interrupted(*arguments, **options):
        original(*arguments, **options)
        signal.raise_signal(signal.SIGINT)

    child.__init__ = interrupted
    with pytest.raises(SystemExit, match="stopped"):
        ablation_of()
    assert child.started[1:] == ("terminated",)


def test_rows_of_the_ablation_are_networks_and_recipes_that_there_are(benchmarks):
    networks = {}
    for name, row in benchmarks.ablation.ROWS.items():
        given = {key.removeprefix("model."): value for key, value in row.options.items()}
        system = SuperResolution("edsr_tiny_x2", row.overrides, **given)
        networks[name] = (str(system.model.config), str(system.recipe))
    assert len(set(networks.values())) == len(networks)


def test_the_ablation_reports_mean_and_spread(benchmarks, tmp_path):
    def result(seed, psnr):
        curve = [[1, 20.0 + seed], [2, psnr]]
        return {"parameters": 5000, "seed": seed, "curve": curve, "sets": {"A": {"psnr": psnr, "ssim": 0.9}}}

    for name, seed, psnr in (("sgd", 0, 30.0), ("sgd", 1, 32.0), ("twin", 0, 33.333)):
        (tmp_path / name).mkdir(exist_ok=True)
        benchmarks.ablation_report.write_json(tmp_path / name / f"seed{seed}.json", result(seed, psnr))
    benchmarks.ablation.write(tmp_path, {})
    assert (tmp_path / "ablation.md").read_text().splitlines() == [
        "| | parameters | seeds | A |",
        "|---|---|---|---|",
        "| convolutional twin | 0.005 M | 1 | 33.33 / .9000 |",
        f"| {benchmarks.ablation.ROWS['sgd'].what} | 0.005 M | 2 | 31.00 ± 1.41 / .9000 ± .0000 |",
    ]


def test_the_report_is_made_anew_of_its_figures(benchmarks, monkeypatch, tmp_path, capsys):
    """Those of docs/: the page's table is theirs, and the plot can be drawn of them."""
    docs = Path(__file__).parents[2] / "docs"
    copy = shutil.copy(docs / "ablation.json", tmp_path)
    monkeypatch.setattr(sys, "argv", ["ablation_report.py", copy])
    benchmarks.ablation_report.main()
    assert capsys.readouterr().out in (docs / "ablation.md").read_text()
    drawn, shown = (files.read(folder / "ablation.png").pixels for folder in (tmp_path, docs))
    assert drawn.shape == shown.shape and drawn.std() > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("{}", "is not what"),
        ("nothing", "is not what"),
        ('{"rows": [1]}', "is not what"),
    ],
)
def test_the_report_says_what_is_wrong_with_its_figures(benchmarks, monkeypatch, tmp_path, text, message):
    path = tmp_path / "ablation.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(sys, "argv", ["ablation_report.py", str(path)])
    with pytest.raises(SystemExit, match=rf"error: .*{message}"):
        benchmarks.ablation_report.main()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"set": "Other"}, "no set Other in"),
        ({"preset": "edsr_huge_x2"}, "no model is called 'edsr_huge_x2'"),
        ({"rows": "none"}, "invalid choice: 'none'"),
        ({"fit": "model.compile"}, "must be OPTION=VALUE, got 'model.compile'"),
        ({"runs": "/dev/null/x"}, "/dev/null/x cannot be written"),
    ],
)
def test_the_ablation_says_what_is_wrong(ablation_of, capsys, changed, message):
    with pytest.raises(SystemExit) as ended:
        ablation_of(**changed)
    said = capsys.readouterr().err if ended.value.code == 2 else ended.value.code
    assert message in said


def test_the_ablation_needs_matplotlib(ablation_of, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"error: the plot needs matplotlib: pip install '\.\[benchmarks\]'"):
        ablation_of()
    assert not (tmp_path / "runs").exists()
