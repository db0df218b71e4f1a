"""A network as an ONNX model of standard operators, which ONNX Runtime and others run without this package.

The graph is built by walking `EDSR` rather than by tracing it: an adder layer has no operator, and how it is said in
others decides what it costs (see `_adder`). Needs the package `onnx`, imported when used.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from addersr import __version__
from addersr.atomic import replacing
from addersr.errors import AdderSRError, CheckpointError
from addersr.layers import AdderConv2d, AdderUnit, BoxCoxHighPass, PowerActivation
from addersr.models import EDSR
from addersr.models.edsr import ConvUnit, ResidualBlock
from addersr.models.presets import Network
from addersr.models.quantized import is_quantized

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

__all__ = ["export_onnx"]

OPSET, IR_VERSION = 17, 8  # of 2022: runtimes since ONNX Runtime 1.12 read them
_TO_THE_END = 2**63 - 1


def export_onnx(model: Network, path: str | os.PathLike[str], card: Mapping[str, Any] | None = None) -> None:
    """Write `model`, as it computes in eval mode, as an ONNX model. Atomic.

    The model takes "input", (N, 3, H, W) float32 RGB in [0, 1], and gives "output", (N, 3, s H, s W), not clipped; N,
    H and W may change from call to call. Convolutions are plain Conv nodes with the names of their modules, so that a
    quantiser finds them. The metadata say "scale", "addersr" (this version), "model" (the arguments of `EDSR`) and
    "card", the last two in JSON, and "preset" where the card does.

    What it costs in ONNX Runtime: about 20 C s^2 H W bytes for C channels, which are five of the widest maps, and
    several times the time of this package's kernels (`_adder`).

    Args:
        model: an EDSR, an adder network in float32 or its convolutional twin.
        path: the file; folders above it are made.
        card: what is known about the weights, as JSON can hold it.

    Raises:
        AdderSRError: the package onnx is missing.
        CheckpointError: the file cannot be written, or the network is no EDSR, is quantised or has a layer that
            cannot be exported.
    """
    if not isinstance(model, EDSR):
        raise CheckpointError(f"the network is a {type(model).__name__}; only EDSR can be exported to ONNX")
    if is_quantized(model):
        raise CheckpointError("the network is quantised; export its float32 weights")
    onnx, path, card = _onnx(), Path(path), dict(card or {})
    graph = _Graph()
    result = _network(graph, model, "input")
    graph.node("Identity", [result], ["output"])
    proto = onnx.helper.make_model(
        graph.build(
            "EDSR", [_picture("input", "height", "width")], [_picture("output", "out_height", "out_width")]
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="addersr",
        producer_version=__version__,
    )
    properties = {"scale": str(model.scale), "addersr": __version__, "model": json.dumps(model.config)}
    if "preset" in card:
        properties["preset"] = str(card["preset"])
    onnx.helper.set_model_props(proto, properties | {"card": json.dumps(card)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(proto.SerializeToString())
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error


def _onnx() -> ModuleType:
    """The package onnx."""
    try:
        import onnx.helper
        import onnx.numpy_helper
    except ModuleNotFoundError as error:
        raise AdderSRError(
            f"writing ONNX needs the package onnx ({error}): pip install 'addersr[onnx]'"
        ) from error
    return onnx


def _picture(name: str, height: str, width: str) -> Any:
    onnx = _onnx()
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3, height, width])


class _Graph:
    """Nodes and constants that are being collected; every value gets a name that no graph of the model has."""

    def __init__(self, outer: _Graph | None = None) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._numbers: itertools.count[int] = outer._numbers if outer else itertools.count()

    def name(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers)}"

    def constant(self, value: Tensor | float | list[int], name: str = "") -> str:
        """A float32 tensor or number, or a list of int64; the result is the value's name."""
        content = value.detach().cpu() if isinstance(value, Tensor) else value
        array = np.asarray(content, np.int64 if isinstance(value, list) else np.float32)
        name = name or self.name("constant")
        self.constants.append(_onnx().numpy_helper.from_array(array, name))
        return name

    def node(
        self, kind: str, inputs: list[str], outputs: list[str], name: str = "", **attributes: Any
    ) -> None:
        self.nodes.append(_onnx().helper.make_node(kind, inputs, outputs, name or outputs[0], **attributes))

    def __call__(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds a node of one result, and gives that result's name."""
        result = self.name(name or kind)
        self.node(kind, list(inputs), [result], name, **attributes)
        return result

    def build(self, name: str, inputs: list[Any], outputs: list[Any]) -> GraphProto:
        graph: GraphProto = _onnx().helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        return graph


def _network(graph: _Graph, model: EDSR, x: str) -> str:
    """`EDSR.forward`, like every function below: from the name of a value to the name of the result."""
    mean = graph.constant(model.mean, "mean")
    centred = graph("Sub", x, mean)
    if model.box_cox is not None:
        centred = graph("Concat", centred, _box_cox(graph, model.box_cox, x), axis=1)
    features = _convolution(graph, model.head, centred, "head")
    deep = features
    for index, module in enumerate(model.body):
        deep = _body_part(graph, module, deep, f"body.{index}")
    deep = graph("Add", features, deep)
    for index, module in enumerate(model.upsampler):
        if isinstance(module, nn.PixelShuffle):
            deep = graph("DepthToSpace", deep, blocksize=module.upscale_factor, mode="CRD")
        else:
            deep = _body_part(graph, module, deep, f"upsampler.{index}")
    picture = _convolution(graph, model.tail, deep, "tail")
    if model.global_skip == "none":
        return graph("Add", picture, mean)
    scales = graph.constant(torch.tensor([1, 1, model.scale, model.scale]))
    # half_pixel is what torch calls align_corners=False
    larger = graph("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    return graph("Add", picture, larger)


def _body_part(graph: _Graph, module: nn.Module, x: str, name: str) -> str:
    if isinstance(module, ResidualBlock):
        residue = _body_part(graph, module.first, x, f"{name}.first")
        residue = _body_part(graph, module.second, residue, f"{name}.second")
        return graph("Add", x, graph("Mul", residue, graph.constant(module.scaling)))
    if isinstance(module, AdderUnit):
        return _adder_unit(graph, module, x, name)
    if isinstance(module, ConvUnit):
        y = _convolution(graph, module.conv, x, f"{name}.conv")
        return graph("Relu", y) if module.relu else y
    raise CheckpointError(f"{name} is a {type(module).__name__}, which cannot be written as ONNX")


def _convolution(graph: _Graph, layer: nn.Conv2d, x: str, name: str) -> str:
    assert layer.bias is not None and isinstance(layer.padding, tuple)
    weight = graph.constant(layer.weight, f"{name}.weight")
    bias = graph.constant(layer.bias, f"{name}.bias")
    pads, kernel = 2 * list(layer.padding), list(layer.kernel_size)
    return graph("Conv", x, weight, bias, name=name, kernel_shape=kernel, pads=pads)


def _adder_unit(graph: _Graph, unit: AdderUnit, x: str, name: str) -> str:
    y = _adder(graph, unit.adder, x, f"{name}.adder")
    if isinstance(norm := unit.norm, nn.BatchNorm2d):
        names = ("weight", "bias", "running_mean", "running_var")
        constants = [graph.constant(getattr(norm, n), f"{name}.norm.{n}") for n in names]
        y = graph("BatchNormalization", y, *constants, epsilon=norm.eps)
    if unit.gain is not None:
        if unit.repeats > 1:  # each channel of x, repeated
            channels = [c for c in range(unit.adder.weight.shape[1]) for _ in range(unit.repeats)]
            x = graph("Gather", x, graph.constant(channels), axis=1)
        y = graph("Add", y, graph("Mul", x, graph.constant(unit.gain)))
    if isinstance(unit.relu, nn.ReLU):
        y = graph("Relu", y)
    return _power(graph, unit.power, y) if isinstance(unit.power, PowerActivation) else y


def _power(graph: _Graph, power: PowerActivation, y: str) -> str:
    """sign(y) ((|y| + eps)^alpha - eps^alpha)."""
    shifted = graph("Add", graph("Abs", y), graph.constant(power.eps))
    floor = graph.constant(power.eps ** power.alpha.detach())
    grown = graph("Sub", graph("Pow", shifted, graph.constant(power.alpha)), floor)
    return graph("Mul", graph("Sign", y), grown)


def _box_cox(graph: _Graph, stage: BoxCoxHighPass, x: str) -> str:
    lam = stage.lam.item()
    log = graph("Log", graph("Add", graph("Relu", x), graph.constant(stage.eps)))
    if abs(lam) < 1e-8:  # the limit, to float32's last digit
        curved = log
    else:  # expm1(p) = 2 t / (1 - t) with t = tanh(p / 2), for exp(p) - 1 would lose the digits of a small p
        t = graph("Tanh", graph("Mul", log, graph.constant(lam / 2)))
        curved = graph("Div", graph("Mul", t, graph.constant(2 / lam)), graph("Sub", graph.constant(1.0), t))
    # Two neighbours' mean four times over, along both axes, is the binomial filter (1, 4, 6, 4, 1) / 16.
    low = graph("Pad", curved, graph.constant([0, 0, 2, 2, 0, 0, 2, 2]), mode="edge")
    for _ in range(4):
        low = graph("AveragePool", low, kernel_shape=[2, 2])
    return graph("Sub", curved, low)


def _adder(graph: _Graph, layer: AdderConv2d, x: str, name: str) -> str:
    """-sum |x - w|, of stride 1: (N, C, H, W) -> (N, O, H', W').

    A Loop over the rows of the result lays the C * K * K values of each patch of a row side by side; in it, a Scan over
    the filters subtracts, takes magnitudes and sums them by a product with -1. So what a filter needs is as large as
    one row's patches and stays in the processor's cache, where these operators run twice as fast as on whole maps.
    """
    onnx = _onnx()
    channels, kernel = layer.weight.shape[1:3]
    terms, pad = channels * kernel * kernel, layer.padding
    # a patch's values lie in the order (column, channel, row)
    weight = graph.constant(layer.weight.permute(0, 3, 1, 2).reshape(-1, terms, 1), f"{name}.weight")
    minus_ones = graph.constant(torch.full((1, terms), -1))
    padded = graph("Pad", x, graph.constant([0, 0, pad, pad, 0, 0, pad, pad]))
    value, types = onnx.helper.make_tensor_value_info, onnx.TensorProto

    row, go_on, patches, one = (graph.name(kind) for kind in ("row", "go_on", "patches", "filter"))
    scan = _Graph(graph)
    sums = scan("MatMul", minus_ones, scan("Abs", scan("Sub", patches, one)))
    of_filter = scan.build(
        f"{name}.filter", [value(one, types.FLOAT, [terms, 1])], [value(sums, types.FLOAT, None)]
    )

    loop = _Graph(graph)
    rows, columns = loop.constant([2]), loop.constant([3])
    top, bottom = loop("Add", row, loop.constant([0])), loop("Add", row, loop.constant([kernel]))
    band = loop("Slice", padded, top, bottom, rows)
    shifted = [
        loop("Slice", band, loop.constant([j]), loop.constant([j + 1 - kernel or _TO_THE_END]), columns)
        for j in range(kernel)
    ]
    loop.node("Reshape", [loop("Concat", *shifted, axis=1), loop.constant([0, terms, -1])], [patches])
    all_filters = loop("Scan", weight, num_scan_inputs=1, body=of_filter)
    still = loop("Identity", go_on)
    of_row = loop.build(
        f"{name}.row",
        [value(row, types.INT64, []), value(go_on, types.BOOL, [])],
        [value(still, types.BOOL, []), value(all_filters, types.FLOAT, None)],
    )

    height = graph("Sub", graph("Shape", padded, start=2, end=3), graph.constant([kernel - 1]))
    result = graph("Loop", graph("Squeeze", height), "", name=name, body=of_row)  # (H', O, N, 1, W')
    return graph("Transpose", graph("Squeeze", result, graph.constant([3])), perm=[2, 1, 0, 3])
