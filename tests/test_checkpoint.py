"""The weights file: what is saved comes back; what does not fit is refused in one line; what is shipped works."""

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import save_file
from skimage import data

from addersr import checkpoint
from addersr.checkpoint import Precision
from addersr.errors import CheckpointError
from addersr.inference.quantize import quantized
from addersr.models import build
from addersr.models.quantized import adder_units, is_quantized


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
    (other := tmp_path / "other").touch()
    assert file.stat().st_mode == other.stat().st_mode


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


def header(config: object, format: int = 1, kind: str = "EDSR") -> dict[str, str]:
    described = {"format": format, "model": {"class": kind, "config": config}, "card": {}}
    return {"addersr": json.dumps(described)}


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
    save_file(tiny.state_dict(), file, header(tiny.config | {"blocks": 10**9}))
    refused("describes no network.*more layers than the .* tensors")
    save_file(tiny.state_dict(), file, header("config"))
    refused("describes no network")
    vast = torch.full((3,), 1e300, dtype=torch.double)
    save_file({**tiny.state_dict(), "tail.bias": vast}, file, header(tiny.config))
    refused("not finite, in tail.bias")
    for scaling in ("much", None, float("inf")):
        save_file(tiny.state_dict(), file, header(tiny.config | {"residual_scaling": scaling}))
        refused("describes no network.*residual_scaling must be a finite number")
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
    preset = name.removesuffix(checkpoint.INT8_SUFFIX).replace("_twin", "")
    assert loaded.metadata["preset"] == preset
    same = ("scale", "blocks", "channels", "box_cox")
    assert [model.config[key] for key in same] == [build(preset).config[key] for key in same]
    assert model.config["unit"] == ("conv" if "_twin" in name else "adder")
    assert (loaded.precision == "int8") == name.endswith(checkpoint.INT8_SUFFIX)
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


@pytest.fixture
def shipped_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop with edsr_small_x2, edsr_small_x2_int8 and edsr_baseline_x2, all of them tiny inside."""
    model = build("edsr_tiny_x2")
    spans = dict.fromkeys(adder_units(model), (0.0, 1.0))
    for name in ("edsr_small_x2", "edsr_baseline_x2"):
        checkpoint.save(tmp_path / f"{name}.safetensors", model, {})
    checkpoint.save(tmp_path / "edsr_small_x2_int8.safetensors", quantized(model, spans), {"bits": 8})
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    return tmp_path


def test_precision_chooses_among_shipped_weights(shipped_pair: Path) -> None:
    def loaded(name: str, precision: Precision | Literal["auto"]) -> tuple[str, str]:
        loaded = checkpoint.load(name, precision=precision)
        assert is_quantized(loaded.model) == (loaded.precision == "int8")
        return loaded.name, loaded.precision

    assert list(checkpoint.shipped()) == ["edsr_baseline_x2", "edsr_small_x2", "edsr_small_x2_int8"]
    assert (
        loaded("edsr_small_x2", "auto") == loaded("edsr_small_x2", "float32") == ("edsr_small_x2", "float32")
    )
    int8 = ("edsr_small_x2_int8", "int8")
    assert loaded("edsr_small_x2", "int8") == loaded("edsr_small_x2_int8", "auto") == int8
    assert loaded("edsr_small_x2_int8", "int8") == int8


def test_no_int8_weights_by_accident(shipped_pair: Path) -> None:
    assert checkpoint.default_name(2) == "edsr_small_x2"
    (shipped_pair / "edsr_small_x2.safetensors").unlink()
    assert checkpoint.default_name(2) == "edsr_baseline_x2"


def test_a_precision_that_the_weights_are_not_in(shipped_pair: Path, tmp_path: Path) -> None:
    def refused(message: str, name: object, precision: Precision) -> None:
        with pytest.raises(CheckpointError, match=message) as caught:
            checkpoint.load(str(name), precision=precision)
        assert "\n" not in str(caught.value)

    for name in ("edsr_small_x2_int8", shipped_pair / "edsr_small_x2_int8.safetensors"):
        refused(f"{name} is quantised to int8; name its float32 weights", name, "float32")
    file = shipped_pair / "edsr_small_x2.safetensors"  # a file is taken as it is, whatever lies beside it
    for name in ("edsr_baseline_x2", file):
        command = f"addersr quantize --model {name} --data PICTURES -o {Path(name).stem}_int8.safetensors"
        refused(f"{name} is in float32; quantise it: {command}", name, "int8")


def test_a_quantised_file_is_built_as_its_header_says(shipped_pair: Path) -> None:
    source = shipped_pair / "edsr_small_x2_int8.safetensors"
    loaded = checkpoint.load(source)
    x = torch.rand(1, 3, 5, 7)
    copy = shipped_pair / "copy.safetensors"
    checkpoint.save(copy, loaded.model, loaded.metadata)
    again = checkpoint.load(copy)
    assert again.metadata == {"bits": 8} and torch.equal(again.model(x), loaded.model(x))

    config, tensors = loaded.model.config, loaded.model.state_dict()

    def refused(message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(copy)

    save_file(tensors, copy, header(config))
    refused("another architecture")
    save_file(build("edsr_tiny_x2").state_dict(), copy, header(config, kind="QuantizedEDSR"))
    refused("another architecture")
    save_file(tensors, copy, header(config, kind="VDSR"))
    refused("describes no network of this version: .*'blocks'")
    save_file(tensors, copy, header(config, kind="SRCNN"))
    refused("class 'SRCNN', which this version does not know; it knows EDSR, VDSR, QuantizedEDSR")
    for grid in ([0.0, 0, 255], [1.0, 2**30, 255], [1.0, 0, 256]):
        broken = {**tensors, "body.2.grid": torch.tensor(grid, dtype=torch.float64)}
        save_file(broken, copy, header(config, kind="QuantizedEDSR"))
        refused(f"a grid that cannot be, body.2.grid: step {grid[0]}, zero {grid[1]:.1f}, top {grid[2]:.1f}")
