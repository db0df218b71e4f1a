"""`addersr export` of training checkpoints and of weights: which file becomes which."""

import onnx
import pytest
import torch

from addersr import checkpoint
from addersr.cli import main


@pytest.fixture
def trained(command, tmp_path):
    assert command("fit", "--trainer.max_steps", 1) == 0
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


def test_a_training_checkpoint_under_any_name_becomes_either(trained, tmp_path, capsys):
    assert main(["export", str(trained), "-o", str(tmp_path / "w.safetensors")]) == 0
    renamed = trained.rename(tmp_path / "model.pt")
    capsys.readouterr()
    path = tmp_path / "model.onnx"
    assert main(["export", str(renamed), "-o", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: edsr_tiny_x2, averaged weights of step 1\n"
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    weights = checkpoint.load(tmp_path / "w.safetensors").model.head.weight
    assert torch.equal(torch.from_numpy(constants["head.weight"].copy()), weights)


def test_where_the_checkpoint_is_not_those_beside_it_are_named(trained, tmp_path, capsys):
    missing = trained.with_name("bset.ckpt")
    assert main(["export", str(missing), "-o", str(tmp_path / "w.safetensors")]) == 1
    error = f"addersr: error: there is no checkpoint {missing}; beside it there is best.ckpt, last.ckpt\n"
    assert error in capsys.readouterr().err


def test_weights_can_be_given_a_fuller_card(trained, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert main(["export", str(trained), "-o", str(first), "--card", "licence=CC0"]) == 0
    assert main(["export", str(first), "-o", str(second), "--card", "psnr=37.1"]) == 0
    a, b = checkpoint.load(first), checkpoint.load(second)
    assert b.metadata == a.metadata | {"psnr": 37.1}
    for name, value in a.model.state_dict().items():
        assert torch.equal(b.model.state_dict()[name], value)
