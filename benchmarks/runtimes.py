"""Convolutions and convolutional networks in ONNX Runtime and OpenVINO, as the benchmarks call them.

Both run with as many threads as torch and else as they ship. Their packages are optional; a function here raises
`measure.MissingError` where its own is not there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Call, MissingError

INSTALL = "pip install onnx onnxruntime openvino"
FORMATS = ("QOperator", "QDQ")  # of quantised models in ONNX Runtime


def int8_convolution_onnxruntime(shape: Sequence[int], quant_format: str) -> Call:
    """A 3x3 convolution of as many filters as channels, from uint8 to uint8 with int8 filters.

    "QOperator" is one QLinearConv; "QDQ" a Conv among nodes that quantise and dequantise, for the runtime to fuse.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingError(f"{error}; {INSTALL}") from error
    filters, picture = _bytes(shape)
    values = {"filters": filters, "zero": np.uint8(128), "filter_zero": np.int8(0), "step": np.float32(0.03),
              "large_step": np.float32(1)}  # fmt: skip
    grid, filter_grid, out_grid = ["step", "zero"], ["step", "filter_zero"], ["large_step", "zero"]
    node = helper.make_node
    if quant_format == "QOperator":
        nodes = [
            node("QLinearConv", ["x", *grid, "filters", *filter_grid, *out_grid], ["y"], pads=[1, 1, 1, 1])
        ]
    else:
        nodes = [
            node("DequantizeLinear", ["x", *grid], ["x_float"]),
            node("DequantizeLinear", ["filters", *filter_grid], ["filters_float"]),
            node("Conv", ["x_float", "filters_float"], ["y_float"], pads=[1, 1, 1, 1]),
            node("QuantizeLinear", ["y_float", *out_grid], ["y"]),
        ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "convolution",
        [tensor("x", TensorProto.UINT8, list(shape))],
        [tensor("y", TensorProto.UINT8, list(shape))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return session(model.SerializeToString(), picture)


def session(model: bytes | Path, x: np.ndarray) -> Call:
    """A call of an ONNX model with one input in ONNX Runtime; free sizes of (N, C, H, W) are set to those of `x`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingError(f"{error}; {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    for name, size in zip(("batch", "height", "width"), (len(x), *x.shape[2:]), strict=True):
        options.add_free_dimension_override_by_name(name, size)
    source = model if isinstance(model, bytes) else str(model)
    runner = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    feed = {runner.get_inputs()[0].name: x}
    return lambda: runner.run(None, feed)


def quantize(model: Path, result: Path, quant_format: str, kinds: list[str] | None) -> None:
    """Quantise an ONNX network statically to uint8 activations and int8 filters.

    Which pictures it is calibrated on does not matter for its speed: they are noise.

    Args:
        model: its input is called "input", (N, 3, H, W).
        result: the file to write; another is left beside it.
        quant_format: one of `FORMATS`.
        kinds: the operators to quantise; None for all that the runtime can.
    """
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingError(f"{error}; {INSTALL}") from error

    class Noise(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            self._pictures = iter([generator.random((1, 3, 32, 32), np.float32) for _ in range(2)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self._pictures, None)
            return None if picture is None else {"input": picture}

    prepared = result.with_suffix(
        ".prepared.onnx"
    )  # as the runtime's manual asks for, without needless operators
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared,
        result,
        Noise(),
        quant_format=quantization.QuantFormat[quant_format],
        op_types_to_quantize=kinds,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,  # what the runtime's kernels for Intel's and AMD's processors take
    )


def int8_convolution_openvino(shape: Sequence[int]) -> Call:
    """As `int8_convolution_onnxruntime`; OpenVINO quantises where it finds FakeQuantize."""
    openvino = _openvino()
    from openvino import opset13 as op

    filters, picture = _bytes(shape)

    def limited(values: Any, high: float) -> Any:
        ends = [op.constant(np.float32(end)) for end in (0, high, 0, high)]
        return op.fake_quantize(values, *ends, 256)

    x = op.parameter(list(shape), np.uint8)
    weight = op.multiply(op.convert(op.constant(filters), "f32"), op.constant(np.float32(1 / 40)))
    sums = op.convolution(limited(op.convert(x, "f32"), 255), weight, *[[1, 1]] * 4)
    scaled = op.multiply(limited(op.relu(sums), 25500), op.constant(np.float32(1 / 100)))
    return _compiled(openvino.Model([op.convert(scaled, "u8")], [x]), picture)


def network_openvino(model: Path, x: np.ndarray) -> Call:
    """A call of an ONNX network in OpenVINO, compiled for the size of `x`."""
    network = _openvino().Core().read_model(model)
    network.reshape(list(x.shape))
    return _compiled(network, x)


def _compiled(model: Any, x: np.ndarray) -> Call:
    openvino = _openvino()
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x))
    return request.infer


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingError(f"{error}; {INSTALL}") from error
    return openvino


def _bytes(shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Filters int8 and a picture uint8."""
    generator = np.random.default_rng(0)
    filters = generator.integers(-127, 128, (shape[1], shape[1], 3, 3), np.int8)
    return filters, generator.integers(0, 256, tuple(shape), np.uint8)
