"""A run that is stopped, and what is left of it."""

import signal
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch

from addersr.data.module import SuperResolutionData
from addersr.training.command import _stop_after_this_step
from addersr.training.system import RECORD, SuperResolution

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)


ACCUMULATED = ("--model.adaptive_eta", "0.2", "--trainer.accumulate_grad_batches", "2")


@pytest.mark.parametrize(
    ("batches", "steps", "options"),
    [
        (2, 2, ()),
        (3, 3, ()),
        (4, 2, ACCUMULATED),
        (5, 3, ACCUMULATED),  # within a step, which is completed first
        (5, 3, (*ACCUMULATED, "--trainer.val_check_interval", "5")),  # and before a validation there
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(command, tmp_path, batches, steps, options, last):
    every = ("--last.every_n_train_steps", 100, *options)
    assert command("fit", "--trainer.max_steps", 6, *every) == 0
    whole = last()
    (tmp_path / "run").rename(tmp_path / "whole")

    # The schedule needs its whole length from the start, so the first part is stopped and not planned shorter.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, "on_train_batch_end", stop_after(batches), raising=False)
        assert command("fit", "--trainer.max_steps", 6, *every) == 143
    assert last()["global_step"] == steps
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert command("fit", "--trainer.max_steps", 6, "--ckpt_path", path, *every) == 0

    resumed = last()
    assert resumed["global_step"] == whole["global_step"] == 6
    assert_equal(resumed["state_dict"], whole["state_dict"])
    assert_equal(resumed["current_model_state"], whole["current_model_state"])
    for a, b in zip(*(c["optimizer_states"][0]["state"].values() for c in (resumed, whole)), strict=True):
        assert_equal(a, b)


def stop_after(batches):
    def on_train_batch_end(module, outputs, batch, batch_idx):
        if batch_idx + 1 == batches:
            signal.raise_signal(signal.SIGTERM)

    return on_train_batch_end


def test_interrupting_the_process_saves_the_run(tmp_path, data, last):
    """Ctrl-C, in a process of its own: exit code 143, last.ckpt of the step at which it stopped, resumable."""
    words = [sys.executable, "-m", "addersr.cli", "fit", "--run_dir", str(tmp_path / "run")]
    words += [
        "--model.preset",
        "edsr_tiny_x2",
        "--data.train_dirs",
        f"[{data / 'train'}]",
        "--data.patch",
        "8",
    ]
    words += ["--data.val_dirs", f"[{data / 'val'}]", "--data.cache_dir", str(data / "cache")]
    words += [
        "--trainer.accelerator",
        "cpu",
        "--trainer.max_steps",
        "1000000",
        "--progress.refresh_rate",
        "1",
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines = []
    drain = threading.Thread(target=lambda: lines.extend(process.stderr))  # a full pipe would block the child
    limit = threading.Timer(300, process.kill)
    drain.start(), limit.start()
    try:
        for line in process.stdout:  # it ends when the child does
            if "train/loss" in line:
                process.send_signal(signal.SIGINT)
                break
        for _ in process.stdout:
            pass
        process.wait()
    finally:
        limit.cancel()
        process.kill()
        drain.join()
        process.stdout.close()
        process.stderr.close()
    errors = "".join(lines)
    assert process.returncode == 143, errors
    assert "stopping after this step" in errors and "Traceback" not in errors
    content = last()
    assert content["global_step"] == content[RECORD]["steps"] > 0


def test_interrupting_before_training_ends_the_process_with_its_temporary_files(command, tmp_path):
    """As in a download or while pictures are decoded, when there is nothing to save."""

    def prepare_data(_):
        (tmp_path / "prepared").touch()
        _stop_after_this_step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolutionData, "prepare_data", prepare_data)
        with pytest.raises(KeyboardInterrupt):
            command("fit", "--trainer.max_steps", 2)
    assert (tmp_path / "prepared").exists() and not (tmp_path / "run" / "checkpoints").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
