"""Who may import whom, each in a fresh process: the light stays light, and heavy libraries keep to their rooms."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import addersr

HEAVY = ["lightning", "gradio", "triton", "torchvision", "skimage", "tensorboard"]


def loaded_by(code: str) -> list[str]:
    probe = f"import sys; {code}; print(*(m for m in {HEAVY} if m in sys.modules))"
    return subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.parametrize(
    "module", ["addersr", "addersr.cli", "addersr.ops", "addersr.models", "addersr.checkpoint"]
)
def test_light_modules(module: str) -> None:
    assert loaded_by(f"import {module}") == []


@pytest.mark.parametrize(
    "module",
    [
        "addersr.inference.api",
        "addersr.inference.command",
        "addersr.inference.launch",
        "addersr.inference.quantize",
        "addersr.inference.upscaler",
        "addersr.evaluation.benchmark",
        "addersr.info",
    ],
)
def test_neither_lightning_nor_gradio(module: str) -> None:
    assert not {"lightning", "gradio"} & set(loaded_by(f"import {module}"))


def test_the_package_alone_loads_nothing_at_all() -> None:
    probe = "import sys, addersr; print(*{'torch', 'numpy', 'PIL', 'scipy'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
        == "\n"
    )


def test_triton_waits_for_a_cuda_tensor() -> None:
    call = "import torch; from addersr.ops import adder2d; adder2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3))"
    assert "triton" not in loaded_by(call)
    assert "triton" not in loaded_by(
        "from addersr.ops import unavailable_reason; unavailable_reason('triton')"
    )


def test_upscaling_in_one_process_does_without_lightning(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--quiet"]
    assert not {"lightning", "gradio"} & set(loaded_by(f"from addersr.cli import main; main({words})"))
    assert (tmp_path / "out" / "a.png").exists()


@pytest.mark.parametrize("module", ["addersr.training.system", "addersr.inference.distributed"])
def test_training_and_several_processes_need_lightning(module: str) -> None:
    assert "lightning" in loaded_by(f"import {module}")


def test_nothing_else_names_lightning() -> None:
    """Nor imports it later, within a function."""
    package = Path(addersr.__file__).parent
    naming = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) lightning\b", path.read_text(), re.MULTILINE)
    }
    rooms = {name for name in naming if name.startswith("training/")}
    assert naming - rooms == {"data/module.py", "inference/distributed.py"}


def test_public_names() -> None:
    import addersr.layers
    import addersr.models
    import addersr.ops

    for package in (addersr, addersr.layers, addersr.models, addersr.ops):
        assert package.__all__ == sorted(package.__all__)
        assert all(hasattr(package, name) for name in package.__all__)
