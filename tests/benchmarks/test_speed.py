"""The benchmarks' arithmetic and report, on made-up timings; nothing here is timed."""

import argparse
import json
import sys
from functools import partial

import numpy as np
import pytest

from addersr.ops import cpu


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
            benchmarks.measure.positive(text)
    assert benchmarks.measure.positive("3") == 3
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
