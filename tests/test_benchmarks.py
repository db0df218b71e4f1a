"""The benchmarks' arithmetic and report, on made-up timings; nothing here is timed."""

import argparse
import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from addersr import checkpoint
from addersr.cli import main as addersr
from addersr.images import files
from addersr.ops import cpu
from addersr.training.system import SuperResolution

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODULES = ("measure", "runtimes", "ops", "networks", "bits", "ablation")


@pytest.fixture
def benchmarks(monkeypatch):
    """The scripts as modules, by the names that they import each other by."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import ablation
    import bits
    import measure
    import networks
    import ops
    import runtimes

    yield SimpleNamespace(
        ablation=ablation, bits=bits, measure=measure, networks=networks, ops=ops, runtimes=runtimes
    )
    for name in MODULES:
        del sys.modules[name]


def test_medians_leave_out_the_warm_up_and_interleave(benchmarks):
    order = []

    def candidate(name, blocks):
        blocks = iter(blocks)

        def run():
            order.append(name)
            return next(blocks)

        return run

    slow = candidate("slow", [[99.0, 99.0], [4.0, 6.0], [5.0, 40.0], [5.0, 5.0]])
    fast = candidate("fast", [[0.0], [1.0], [3.0], [2.0]])
    medians = benchmarks.measure.medians({"slow": slow, "fast": fast}, 3, "")
    assert medians == {"slow": 5.0, "fast": 2.0}
    assert order == ["slow", "fast"] * 4


def test_a_block_times_all_calls_but_the_first(benchmarks):
    calls = []
    times = benchmarks.measure.block(lambda: calls.append(1))
    assert len(times) == benchmarks.measure.TIMED_CALLS == len(calls) - 1
    assert min(times) >= 0


def test_a_candidate_that_cannot_run_is_left_out_and_said(benchmarks, capsys):
    def cannot():
        raise benchmarks.measure.MissingError("No module named 'x'; pip install x")

    assert list(benchmarks.measure.prepared({"a": cannot, "b": lambda: list})) == ["b"]
    assert capsys.readouterr().out == "left out: a: No module named 'x'; pip install x\n"


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "openvino"])
def test_a_missing_package_is_named_with_its_command(benchmarks, monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    shape = (1, 2, 4, 4)
    call = {
        "onnx": partial(benchmarks.runtimes.int8_convolution_onnxruntime, shape, "QDQ"),
        "onnxruntime": partial(benchmarks.runtimes.session, b"", np.zeros(shape, np.float32)),
        "openvino": partial(benchmarks.runtimes.int8_convolution_openvino, shape),
    }[package]
    with pytest.raises(benchmarks.measure.MissingError, match=f"{package}.*pip install onnx onnxruntime"):
        call()
    if package == "onnx":
        with pytest.raises(benchmarks.measure.MissingError, match="onnx"):
            benchmarks.networks.twin_onnxruntime("float32", tmp_path, "edsr_tiny_x2", (4, 4))


def test_ratios_of_one_layer(benchmarks):
    seconds = {
        "adder float32": 10.0,
        "adder float32 exact": 16.0,
        "adder int8": 2.0,
        "adder int8 unit": 2.5,
        "conv float32": 8.0,
        "conv bfloat16": 3.0,
        "conv int8 ONNX Runtime QOperator": 4.0,
        "conv int8 ONNX Runtime QDQ": 3.5,
        "conv int8 OpenVINO": 2.4,
        "adder float32 step": 30.0,
        "conv float32 step": 20.0,
    }
    assert set(seconds) == set(benchmarks.ops.FORWARD) | set(benchmarks.ops.STEPS)
    assert benchmarks.ops.ratios(seconds) == {
        "float32_vs_conv": 0.8,
        "float32_exact_vs_conv": 0.5,
        "int8_vs_conv": 4.0,
        "int8_vs_bf16": 1.5,
        "int8_vs_onnxruntime_int8": 1.2,
        "int8_unit_vs_conv": 3.2,
        "step_vs_conv": 1.5,
    }
    del seconds["conv int8 OpenVINO"]
    assert benchmarks.ops.ratios(seconds)["int8_vs_onnxruntime_int8"] == 1.75
    for form in benchmarks.runtimes.FORMATS:
        del seconds[f"conv int8 ONNX Runtime {form}"]
    assert benchmarks.ops.ratios(seconds)["int8_vs_onnxruntime_int8"] is None


def test_ratios_of_networks_are_the_smallest_presets(benchmarks, tmp_path):
    names = list(benchmarks.networks.candidates(tmp_path))
    seconds = {
        "a": dict.fromkeys(names, 6.0) | {"adder int8": 2.0, "adder float32": 4.0},
        "b": dict.fromkeys(names, 9.0)
        | {"adder int8": 2.0, "adder float32": 3.0, "conv int8 ONNX Runtime QDQ all": 5.0},
    }
    ratios = benchmarks.networks.ratios(seconds)
    assert ratios["network_int8_vs_float32"] == ratios["network_int8_vs_float32 a"] == 3.0
    assert ratios["network_int8_vs_float32 b"] == 4.5
    assert ratios["network_int8_vs_onnxruntime_int8"] == ratios["network_int8_vs_onnxruntime_int8 b"] == 2.5
    assert ratios["network_float32_vs_float32"] == 1.5
    assert None not in ratios.values(), "a ratio names a candidate that there is not"


def test_work_of_a_network_counts_each_layer_at_its_resolution(benchmarks):
    c = 8  # edsr_tiny: 2 blocks
    at_low = 6 * c * 9 + (2 * 2 + 1) * c * c * 9 + 4 * c * c * 9
    at_high = 4 * c * 3 * 9
    assert benchmarks.networks.work("edsr_tiny_x2", (5, 7)) == 35 * (at_low + at_high)


def test_the_report_has_every_key(benchmarks, tmp_path, capsys):
    report = benchmarks.measure.Report()
    report.add("layer", (1, 2, 3, 4), 0.5, 1e9, 2.0)
    report.ratios["one"], report.ratios["unknown"] = 1.5, None
    report.finish(tmp_path / "figures.json")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert set(written) == {"machine", "results", "ratios"}
    assert {"processor", "instruction_set", "amx", "threads", "torch", "onnxruntime", "openvino"} <= set(
        written["machine"]
    )
    assert written["results"] == [
        {"name": "layer", "shape": [1, 2, 3, 4], "ms": 500.0, "gops_per_s": 2.0, "peak_mib": 2.0}
    ]
    assert written["ratios"] == {"one": 1.5, "unknown": None}
    assert "500.000 ms" in capsys.readouterr().out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_is_what_the_call_takes(benchmarks):
    peak = benchmarks.measure.peak_mib(partial, [np.ones, 8], [np.ones, 2**23])  # 64 MiB of float64
    assert peak == pytest.approx(64, abs=4)


def test_bad_arguments_are_told_at_once(benchmarks, tmp_path):
    for text in ("0", "-1", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            benchmarks.measure._positive(text)
    assert benchmarks.measure._positive("3") == 3
    for path in (tmp_path, tmp_path / "none" / "figures.json"):
        with pytest.raises(argparse.ArgumentTypeError, match="cannot write"):
            benchmarks.measure.output_file(str(path))
    path = tmp_path / "figures.json"
    assert benchmarks.measure.output_file(str(path)) == path


@pytest.mark.skipif(cpu.unavailable_reason() is not None, reason="no compiled kernels")
def test_candidates_of_a_layer_run(benchmarks):
    ops, ran = benchmarks.ops, []
    for name, prepare in {**ops.FORWARD, **ops.STEPS, **ops.OFFICIAL}.items():
        try:
            prepare((2, 8, 6, 7))()
        except benchmarks.measure.MissingError:
            continue
        ran.append(name)
    assert {name for name in ops.FORWARD if "OpenVINO" not in name} <= set(ran)


def test_both_formats_of_onnx_runtime_compute_the_same(benchmarks):
    results = [
        benchmarks.runtimes.int8_convolution_onnxruntime((2, 8, 6, 7), form)()[0]
        for form in benchmarks.runtimes.FORMATS
    ]
    assert len(np.unique(results[0])) > 20
    assert np.array_equal(*results)


@pytest.mark.skipif(cpu.unavailable_reason() is not None, reason="no compiled kernels")
def test_candidates_of_a_network_enlarge(benchmarks, tmp_path):
    candidates = benchmarks.networks.candidates(tmp_path)
    names = ["adder int8", "adder float32", "conv float32", "conv bfloat16", "conv float32 ONNX Runtime"]
    for name in [*names, *(f"conv int8 ONNX Runtime {variant}" for variant in benchmarks.networks.QUANTIZED)]:
        result = candidates[name]("edsr_tiny_x2", (5, 7))()
        picture = result[0] if isinstance(result, list) else result
        assert tuple(picture.shape) == (1, 3, 10, 14), name


@pytest.fixture
def picture(tmp_path):
    """A small picture, the set Tiny in the folder sets."""
    path = tmp_path / "sets" / "Tiny" / "HR" / "a.png"
    path.parent.mkdir(parents=True)
    files.write(path, files.Picture(np.random.default_rng(0).integers(0, 256, (24, 28, 3), np.uint8)))
    return path


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
        assert words[:3] == [sys.executable, "-m", "addersr.cli"]
        self.code = addersr(words[3:])

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
    (result,) = written["rows"]["twin"]
    assert result == json.loads((runs / "twin" / "seed3.json").read_text())
    assert result["seed"] == 3 and [step for step, _ in result["curve"]] == [1, 2]
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


def test_an_ablation_that_is_stopped_goes_on_from_its_checkpoint(
    ablation_of, benchmarks, monkeypatch, tmp_path
):
    started = []

    class Child:
        def __init__(self, words, **_):
            started.append(words)

        def terminate(self):
            started.append("terminated")

        def wait(self):
            signal.raise_signal(signal.SIGTERM)
            return 143

    monkeypatch.setattr(subprocess, "Popen", Child)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="stopped; the same command goes on from here"):
        ablation_of()
    assert started[1:] == ["terminated"] and signal.getsignal(signal.SIGTERM) is before
    assert not [word for word in started[0] if "ckpt_path" in word]
    last = tmp_path / "runs" / "twin" / "seed3" / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    torch.save({"state_dict": {}, "global_step": 1}, last)
    with pytest.raises(SystemExit, match="stopped"):
        ablation_of()
    assert f"--ckpt_path={last}" in started[2]


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
        benchmarks.ablation.write_json(tmp_path / name / f"seed{seed}.json", result(seed, psnr))
    benchmarks.ablation.write(tmp_path, {})
    assert (tmp_path / "ablation.md").read_text().splitlines() == [
        "| | parameters | seeds | A |",
        "|---|---|---|---|",
        "| convolutional twin | 0.005 M | 1 | 33.33 / .9000 |",
        f"| {benchmarks.ablation.ROWS['sgd'].what} | 0.005 M | 2 | 31.00 ± 1.41 / .9000 ± .0000 |",
    ]


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
