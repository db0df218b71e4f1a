"""`addersr export` of training checkpoints and of weights: which file becomes which."""

import random
import zipfile
from contextlib import suppress

import onnx
import pytest
import torch

from addersr import checkpoint
from addersr.cli import main
from addersr.errors import CheckpointError
from addersr.models import build
from addersr.training.export import convert
from addersr.training.reading import read_checkpoint


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


def test_a_damaged_checkpoint_is_read_or_refused_and_nothing_else(trained, tmp_path):
    chance, bad = random.Random(0), tmp_path / "bad.ckpt"
    with zipfile.ZipFile(trained) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = [name for name in entries if name.endswith("data.pkl")]
    refused = 0
    for _ in range(150):
        damaged = bytearray(entries[pickled])
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with zipfile.ZipFile(bad, "w") as archive:
            for name, content in (entries | {pickled: bytes(damaged)}).items():
                archive.writestr(name, content)
        refused += 1
        with suppress(CheckpointError):
            convert(read_checkpoint(bad))
            refused -= 1
    assert refused


@pytest.mark.parametrize(
    "change",
    [{"recipe": None}, {"preset": None}, {"steps": None}, {"config": None}, {"architecture": "Unknown"}],
)
def test_a_record_of_another_kind_is_refused(trained, change):
    content = read_checkpoint(trained)
    convert(content)
    (key,) = change
    record = content["addersr"] | change
    if key in ("preset", "steps"):
        del record[key]
    with pytest.raises(CheckpointError, match="a network that this version does not know"):
        convert(content | {"addersr": record})


def test_what_diverged_is_not_written(tmp_path):
    model = build("edsr_tiny_x2")
    torch.nn.init.constant_(model.tail.bias, float("nan"))
    with pytest.raises(CheckpointError, match=r"not finite, in tail\.bias: its training diverged"):
        checkpoint.save(tmp_path / "w.safetensors", model, {})
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000])
def test_a_field_that_is_no_json_is_text(trained, tmp_path, text):
    path = tmp_path / "w.safetensors"
    assert main(["export", str(trained), "-o", str(path), "--card", f"note={text}"]) == 0
    assert checkpoint.load(path).metadata["note"] == text
