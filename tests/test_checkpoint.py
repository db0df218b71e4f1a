"""The weights file: what is saved comes back; what does not fit is refused in one line; what is shipped works."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from skimage import data

from addersr import checkpoint
from addersr.errors import CheckpointError
from addersr.models import build


def test_round_trip(tmp_path: Path) -> None:
    model = build("edsr_tiny_x3", power=False).train()
    model(torch.rand(2, 3, 8, 8))  # moves BatchNorm's statistics
    file = tmp_path / "new folder" / "mine.safetensors"
    checkpoint.save(file, model, {"steps": 12, "data": ["a", "b"]})
    loaded = checkpoint.load(file, scale=3)
    assert (loaded.name, loaded.path, loaded.metadata) == ("mine", file, {"steps": 12, "data": ["a", "b"]})
    assert loaded.model.config == model.config and not loaded.model.training
    x = torch.rand(1, 3, 5, 7)
    assert torch.equal(loaded.model(x), model.eval()(x))
    assert [p.name for p in file.parent.iterdir()] == ["mine.safetensors"]


def test_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    checkpoint.save(file, build("edsr_tiny_x2"), {"steps": 1})
    with pytest.raises(TypeError):
        checkpoint.save(file, build("edsr_tiny_x2"), {"steps": object()})
    assert checkpoint.load(file).metadata == {"steps": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["mine.safetensors"]


def test_save_where_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"written as \.safetensors"):
        checkpoint.save(tmp_path / "mine.pth", build("edsr_tiny_x2"), {})
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        checkpoint.save(tmp_path / "file" / "mine.safetensors", build("edsr_tiny_x2"), {})


def header(config: object, format: int = 1) -> dict[str, str]:
    return {
        "addersr": json.dumps({"format": format, "model": {"class": "EDSR", "config": config}, "card": {}})
    }


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    tiny = build("edsr_tiny_x2")
    file = tmp_path / "w.safetensors"

    def refused(message: str) -> None:
        with pytest.raises(CheckpointError, match=message) as caught:
            checkpoint.load(file)
        assert "\n" not in str(caught.value)

    file.write_bytes(b"PK\x03\x04 a pickled checkpoint")
    refused("not a safetensors file.*addersr export")
    save_file(tiny.state_dict(), file)
    refused("no addersr metadata")
    save_file(tiny.state_dict(), file, {"addersr": "{"})
    refused("describes no network")
    save_file(tiny.state_dict(), file, header(tiny.config | {"wings": 2}))
    refused("describes no network.*wings")
    save_file(tiny.state_dict(), file, header(tiny.config | {"unit": "shift"}))
    refused("describes no network.*shift")
    save_file(tiny.state_dict(), file, header(tiny.config, format=99))
    refused("format 99.*newer")
    save_file(tiny.state_dict(), file, header(tiny.config | {"channels": 12}))
    refused("another architecture")
    save_file({**tiny.state_dict(), "tail.bias": torch.full((3,), torch.nan)}, file, header(tiny.config))
    refused("not finite, in tail.bias")
    save_file(build("edsr_tiny_x2", power=False).state_dict(), file, header(tiny.config))
    refused("another architecture.*power")


def test_names_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights are called 'nonsense'.*there are edsr_small_x2"):
        checkpoint.load("nonsense")
    with pytest.raises(CheckpointError, match=r"no weights for edsr_large_x4 are shipped.*addersr fit"):
        checkpoint.load("edsr_large_x4")
    with pytest.raises(
        CheckpointError, match="edsr_small_x2 enlarges x2, not x4; shipped weights: edsr_small_x2"
    ):
        checkpoint.load("edsr_small_x2", scale=4)
    with pytest.raises(CheckpointError, match="no weights for x7 are shipped"):
        checkpoint.default_name(7)


@pytest.mark.parametrize("name", checkpoint.shipped())
def test_shipped_weights(name: str) -> None:
    """Each is named after its preset, carries a full card, and beats bicubic enlarging on a photograph."""
    loaded = checkpoint.load(name)
    model = loaded.model
    assert model.config["scale"] == build(name).config["scale"]
    assert {"data", "steps", "recipe", "scores", "licence"} <= set(loaded.metadata)
    assert loaded.path.stat().st_size < 25e6
    hr = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None, :, :240, :240].float() / 255
    resize = torch.nn.functional.interpolate
    lr = resize(hr, scale_factor=1 / model.scale, mode="bicubic", antialias=True).clamp(0, 1)
    with torch.inference_mode():
        errors = [
            (sr - hr).square().mean()
            for sr in (model(lr), resize(lr, scale_factor=model.scale, mode="bicubic"))
        ]
    assert errors[0] < errors[1]


def test_something_is_shipped() -> None:
    assert checkpoint.default_name(2) == "edsr_small_x2"
