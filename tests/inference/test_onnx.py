"""`addersr export --onnx`: ONNX Runtime computes what the network computes, at any size."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from addersr import __version__, checkpoint
from addersr.cli import main
from addersr.errors import AdderSRError, CheckpointError
from addersr.inference.fused import FusedEDSR, fusable
from addersr.inference.onnx import export_onnx
from addersr.models import EDSR, build

BARE = {"power": False, "relu": False, "shortcut": False, "box_cox": False, "global_skip": "none"}


def session(path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def assert_equals(run: onnxruntime.InferenceSession, model: EDSR, x: Tensor) -> None:
    """As near to the network in float64 as the network in float32 is, but for a factor."""
    (result,) = run.run(None, {"input": x.numpy()})
    exact_model = build(f"edsr_tiny_x{model.scale}", **model.config).double().eval()
    exact_model.load_state_dict(model.state_dict())
    with torch.no_grad():
        # fused: float32 throughout, where the layer itself sums in 16 bits
        exact, eager = exact_model(x.double()), FusedEDSR(model)(x) if fusable(model) else model(x)
    error, rounding = (abs(torch.as_tensor(y).double() - exact).max() for y in (result, eager))
    assert result.shape == tuple(exact.shape) and result.dtype == np.float32
    assert rounding < 1e-4, "the comparison would be worth nothing"
    assert error <= 4 * rounding + 1e-6


@pytest.mark.parametrize(
    ("scale", "overrides", "lam"),
    [
        (2, {}, 0.5),
        (3, {}, 3e-4),
        (4, {}, -0.3),
        (2, {"unit": "conv"}, 2e-3),
        (4, {"unit": "conv"}, 1.5),
        (3, {"upsampler": "conv"}, 1e-6),
        (2, BARE, 0.5),
        (3, {"batch_norm": False}, 0.0),
    ],
)
def test_onnx_runtime_gives_the_same(busy, tmp_path, scale, overrides, lam):
    model = busy(f"edsr_tiny_x{scale}", **overrides)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("alpha"):
                parameter.uniform_(0.6, 1.4, generator=generator)
            if name.endswith("gain"):
                parameter.uniform_(0.3, 1.2, generator=generator)
            if name.endswith("lam"):
                parameter.fill_(lam)
    path = tmp_path / "new" / "model.onnx"
    export_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    run = session(path)
    for shape in ((1, 3, 17, 24), (2, 3, 7, 5), (1, 3, 1, 1)):
        x = torch.rand(shape, generator=generator)
        x[..., 0, 0] = 0
        assert_equals(run, model, x)


def test_training_mode_does_not_matter(busy, tmp_path):
    model = busy("edsr_tiny_x2")
    export_onnx(model, tmp_path / "eval.onnx")
    export_onnx(model.train(), tmp_path / "train.onnx")
    assert model.training
    assert (tmp_path / "eval.onnx").read_bytes() == (tmp_path / "train.onnx").read_bytes()


def test_convolutions_are_plain_nodes_for_a_quantiser(busy, tmp_path):
    model = busy("edsr_tiny_x2", unit="conv")
    export_onnx(model, tmp_path / "twin.onnx")
    graph = onnx.load(tmp_path / "twin.onnx").graph
    found = {node.name: node for node in graph.node if node.op_type == "Conv"}
    wanted = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert found.keys() == wanted.keys()
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for name, node in found.items():
        weight, bias = (constants[value] for value in node.input[1:])
        assert np.array_equal(weight, wanted[name].weight.detach())
        assert np.array_equal(bias, wanted[name].bias.detach())


def test_no_temporary_has_a_patch_for_each_filter_and_pixel(busy, tmp_path):
    """The only difference of patches and filters is taken for one filter and one row at a time."""
    model = busy("edsr_tiny_x2")
    export_onnx(model, tmp_path / "model.onnx")
    loops = [node for node in onnx.load(tmp_path / "model.onnx").graph.node if node.op_type == "Loop"]
    assert len(loops) == 6  # two blocks of two, one more, the upsampler
    for loop in loops:
        (scan,) = (node for node in loop.attribute[0].g.node if node.op_type == "Scan")
        body = next(a.g for a in scan.attribute if a.name == "body")
        assert [node.op_type for node in body.node] == ["Sub", "Abs", "MatMul"]
        assert [d.dim_value for d in body.input[0].type.tensor_type.shape.dim] == [8 * 9, 1]  # one filter


def test_metadata(busy, tmp_path):
    card = {"preset": "edsr_tiny_x3", "licence": "CC BY"}
    model = busy("edsr_tiny_x3")
    export_onnx(model, tmp_path / "model.onnx", card)
    told = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert told["scale"] == "3" and told["preset"] == "edsr_tiny_x3" and told["addersr"] == __version__
    assert json.loads(told["model"]) == model.config and json.loads(told["card"]) == card


def test_a_layer_without_a_translation_is_refused(busy, tmp_path):
    model = busy("edsr_tiny_x2")
    model.body[1].second = nn.Tanh()
    with pytest.raises(CheckpointError, match=r"body\.1\.second is a Tanh, which cannot be written as ONNX"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_package(busy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx.helper", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(AdderSRError, match=r"pip install 'addersr\[onnx\]'"):
        export_onnx(busy("edsr_tiny_x2"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_importing_the_module_needs_neither_onnx_nor_lightning():
    probe = "import sys, addersr.inference.onnx; print({'onnx', 'lightning'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_a_place_that_cannot_be_written(busy, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"cannot write .*file/model\.onnx"):
        export_onnx(busy("edsr_tiny_x2"), tmp_path / "file" / "model.onnx")
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot write .*model\.onnx"):
        export_onnx(busy("edsr_tiny_x2"), tmp_path / "model.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "model.onnx"]


@pytest.mark.parametrize("flag", [[], ["--onnx"]])
def test_command(weights, tmp_path, capsys, flag):
    path = tmp_path / "model.onnx"
    assert main(["export", str(weights[3]), "-o", str(path), "--card", "licence=CC BY", *flag]) == 0
    assert capsys.readouterr().out == f"{path}: tiny_x3\n"
    run = session(path)
    assert json.loads(run.get_modelmeta().custom_metadata_map["card"]) == {"licence": "CC BY"}
    assert_equals(run, checkpoint.load(weights[3]).model, torch.rand(1, 3, 9, 6))


def test_command_takes_shipped_weights_and_says_what_is_wrong(tmp_path, capsys):
    path = str(tmp_path / "model.onnx")
    assert main(["export", "edsr_small_x2", "--onnx", "-o", path]) == 0
    meta = session(path).get_modelmeta().custom_metadata_map
    assert meta["preset"] == "edsr_small_x2" and "licence" in json.loads(meta["card"])
    capsys.readouterr()
    quantised = "the network is quantised; export its float32 weights"
    for words, message in (
        (["edsr_small_x2_int8", "--onnx", "-o", f"{tmp_path}/q.onnx"], quantised),
        (["edsr_small_x2_int8", "-o", f"{tmp_path}/q.onnx"], quantised),
        (["nonsense", "-o", path], "no weights are called 'nonsense'"),
        (["missing.ckpt", "-o", path], "there is no checkpoint missing.ckpt"),
        (["edsr_small_x2", "--onnx", "-o", f"{tmp_path}/w.safetensors"], "--onnx writes .onnx, got"),
        (["edsr_small_x2", "--onnx", "-o", f"{tmp_path}/w"], "--onnx writes .onnx, got"),
        (["edsr_small_x2", "-o", f"{tmp_path}/w.pt"], "export writes .safetensors or .onnx, got"),
    ):
        assert main(["export", *words]) == 1
        error = capsys.readouterr().err
        assert error.startswith("addersr: error: ") and message in error and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
