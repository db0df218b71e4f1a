"""Two processes, connected by gloo as torchrun connects them, against one that has the batches of both."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from addersr.data.pairs import Batch, PatchStream
from addersr.evaluation.torch_metrics import psnr
from addersr.training.system import SuperResolution

# In float64, where one summing order and another differ by rounding of 1e-16; the average of the weights is float32.
# At rates at which four steps do not multiply that difference: Adam's first steps turn on the sign of a gradient.
COMMON = (
    *("--model.learning_rate", 1e-3, "--model.adder_rate", 20),
    *("--trainer.precision", "64-true", "--model.overrides.blocks", 1),
    *("--trainer.max_steps", 4, "--model.warmup_steps", 0, "--trainer.val_check_interval", 3),
)
RUNS = {
    "adam": ("nothing", ()),
    "local": ("nothing", ("--model.adaptive_eta", 0.2, "--trainer.accumulate_grad_batches", 2)),
    "stopped": ("told to stop", ("--trainer.val_check_interval", 100)),
    "scored": ("nothing", ("--trainer.max_steps", 2, "--trainer.val_check_interval", 2)),
    "diverged": ("diverging", ("--last.every_n_train_steps", 2)),
}
"""Name -> (what happens, options). "scored" has one picture more to validate on than goes into two halves."""


def uneven_set(data, folder):
    """Three pictures, the first of which, that torch's sampler repeats, is unlike the others."""
    (folder / "odd").mkdir()
    for number, name in enumerate(("train/0000.png", "val/0000.png", "val/0001.png")):
        picture = Image.open(data / name)
        picture.resize((24, 20) if number == 0 else picture.size).save(folder / "odd" / f"{number}.png")
    return folder / "odd"


@pytest.fixture(scope="module")
def two(command_line, data, tmp_path_factory):
    """two(name) is the folder of that run by two processes, and what came of it in each."""
    root = tmp_path_factory.mktemp("two")
    devices = ("--trainer.devices", 2, "--trainer.strategy", "ddp")
    odd = ("--data.val_dirs", f"[{uneven_set(data, root)}]")
    lines = [
        [
            event,
            command_line("fit", root / name, *COMMON, *devices, *options, *(odd if name == "scored" else ())),
        ]
        for name, (event, options) in RUNS.items()
    ]
    (root / "runs.json").write_text(json.dumps(lines))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "test",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}  # fmt: skip
    processes = []
    for rank in range(2):
        variables = {
            name: str(value) for name, value in {**torchrun, "RANK": rank, "LOCAL_RANK": rank}.items()
        }
        with (root / f"{rank}.log").open("w") as log:
            words = [
                sys.executable,
                Path(__file__).with_name("two_processes.py"),
                root / "runs.json",
                root / f"{rank}.json",
            ]
            processes.append(subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | variables))
    try:
        codes = [process.wait(300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0], "\n".join((root / f"{rank}.log").read_text() for rank in range(2))
    results = [json.loads((root / f"{rank}.json").read_text()) for rank in range(2)]
    of_run = dict(zip(RUNS, zip(*results, strict=True), strict=True))
    return lambda name: (root / name, of_run[name])


def load(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture
def batches_of_both(monkeypatch):
    """One process sees in each batch what two see together."""
    original = PatchStream.batch

    def batch(stream, number):
        parts = []
        for stream.rank in range(2):
            parts.append(original(stream, number))
        assert not torch.equal(parts[0].hr, parts[1].hr)  # each has its own
        lr, hr = (torch.cat(side) for side in zip(*parts, strict=True))
        return Batch(lr, hr)

    monkeypatch.setattr(PatchStream, "batch", batch)


def assert_equal_but_for_rounding(two, one):
    assert two["global_step"] == one["global_step"]
    compare = torch.testing.assert_close
    compare(two["current_model_state"], one["current_model_state"], rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(two["optimizer_states"], one["optimizer_states"], strict=True):
        compare(ours["state"], theirs["state"], rtol=1e-7, atol=1e-12)  # sums of the gradients
    compare(two["state_dict"], one["state_dict"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["adam", "local"])
def test_two_processes_train_as_one_with_the_batches_of_both(two, command, last, batches_of_both, name):
    """BatchNorm is over both, gradients are reduced, and AdderNet's local rate is of the reduced gradient."""
    folder, results = two(name)
    assert results == (0, 0)
    assert command("fit", *COMMON, *RUNS[name][1]) == 0
    assert_equal_but_for_rounding(load(folder), last())


def test_the_score_is_the_mean_over_pictures_for_any_number_of_processes(
    two, command, tmp_path, data, batches_of_both, monkeypatch
):
    folder, results = two("scored")
    assert results == (0, 0)
    ours, theirs = (json.loads(folder.with_name(f"scored.{rank}.json").read_text()) for rank in range(2))
    alone, pictures = {}, []

    def scored(module):
        alone.update((name, float(value)) for name, value in module.trainer.callback_metrics.items())

    def seen(module, outputs, batch, *_):
        if not module.trainer.sanity_checking:
            pictures.append(module.score(psnr, outputs["sr"], batch).item())

    monkeypatch.setattr(SuperResolution, "on_validation_end", scored, raising=False)
    monkeypatch.setattr(SuperResolution, "on_validation_batch_end", seen, raising=False)
    odd = ("--data.val_dirs", f"[{uneven_set(data, tmp_path)}]")
    assert command("fit", *COMMON, *RUNS["scored"][1], *odd) == 0
    assert len(pictures) == 3 and max(pictures) - min(pictures) > 0.1
    assert alone["val/psnr"] == pytest.approx(sum(pictures) / 3, rel=1e-9)
    for name in ("val/psnr", "val/psnr_bicubic"):
        # Networks trained alike differ by rounding, which a pixel in 8 bits may show.
        assert (
            ours[name] == theirs[name] == pytest.approx(alone[name], rel=1e-5 if name == "val/psnr" else 1e-9)
        )


def test_both_stop_at_one_step_when_one_is_told_to(two, command, last, batches_of_both, monkeypatch):
    folder, results = two("stopped")
    assert results == (143, 0)

    def stop(module, outputs, batch, batch_idx):
        if batch_idx == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(SuperResolution, "on_train_batch_end", stop, raising=False)
    assert command("fit", *COMMON, *RUNS["stopped"][1]) == 143
    assert_equal_but_for_rounding(load(folder), last())


def test_the_layer_is_named_where_one_process_diverges(two):
    """The other first sees it in the unit's normalisation, which is over both."""
    folder, (message, code) = two("diverged")
    assert "in step 3, the result of body.0.first.adder (AdderConv2d) is not finite" in message and code == 0
    assert load(folder)["global_step"] == 2
