"""A run that is told to stop, and what is left of it."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from addersr.data.module import SuperResolutionData
from addersr.training.stopping import Stop, stop_after_this_step
from addersr.training.system import RECORD, SuperResolution


def test_interrupting_the_process_saves_the_run(tmp_path, command_line, last):
    """Ctrl-C, in a process of its own: exit code 143, last.ckpt of the step at which it stopped, resumable."""
    line = command_line(
        "fit", tmp_path / "run", "--trainer.max_steps", 1000000, "--trainer.val_check_interval", 1000
    )
    line = [sys.executable, "-m", "addersr.cli", *line, "--progress.refresh_rate", "1"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines = []
    drain = threading.Thread(target=lambda: lines.extend(process.stderr))  # a full pipe would block the child
    limit = threading.Timer(300, process.kill)
    drain.start(), limit.start()
    try:
        for line in process.stdout:  # it ends when the child does
            if "loss=" in line:
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


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("number", "array", "steps", "requeued"),
    [
        (signal.SIGUSR1, {}, 3, "requeue 7\n"),  # the job's time is nearly over
        (signal.SIGUSR1, {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}, 3, "requeue 5_2\n"),
        (signal.SIGTERM, {}, 3, None),  # preempted or cancelled: SLURM itself knows whether it runs again
    ],
)
def test_a_job_of_slurm_is_saved_and_queued_again(
    command, tmp_path, last, capsys, number, array, steps, requeued
):
    """At the end of a step, unlike with Lightning's own handler, which saves wherever the signal finds it."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(
        f'#!/bin/sh\ntest -e {tmp_path}/run/checkpoints/last.ckpt && echo "$@" > {tmp_path}/asked\n'
    )
    scontrol.chmod(0o755)
    options = (
        "--trainer.max_steps",
        6,
        "--trainer.accumulate_grad_batches",
        2,
        "--trainer.val_check_interval",
        100,
    )

    def within_a_step(module, batch, batch_idx):
        if batch_idx == 4:
            signal.raise_signal(number)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SLURM, **array, "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}.items():
            patch.setenv(name, value)
        patch.setattr(SuperResolution, "on_train_batch_start", within_a_step, raising=False)
        assert command("fit", "--ckpt_path", "last", *options) == 143
    assert last()["global_step"] == steps
    assert [p.name for p in (tmp_path / "run").glob("hpc*")] == []  # Lightning's own checkpoints
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else None) == requeued
    assert "resume it with --ckpt_path last" in capsys.readouterr().err
    # and the same command goes on
    assert command("fit", "--ckpt_path", "last", *options) == 0
    assert last()["global_step"] == 6


def test_a_run_stopped_before_its_first_step_does_not_say_that_it_is_saved(command, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stop, "on_sanity_check_start", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert command("fit", "--trainer.max_steps", 6, "--trainer.num_sanity_val_steps", 2) == 143
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "addersr: " in line)
    assert line == "addersr: stopped before there was anything to save; the same command starts again"
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_validation_that_is_stopped_speaks_of_no_run(command, weights, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            SuperResolution,
            "on_validation_start",
            lambda _: signal.raise_signal(signal.SIGTERM),
            raising=False,
        )
        assert command("validate", "--model.init_from", weights) == 143
    assert "addersr: stopped\n" in capsys.readouterr().err


def test_slurm_refusing_is_said(command, tmp_path, last, capsys):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SLURM, "PATH": str(tmp_path)}.items():  # where no scontrol is
            patch.setenv(name, value)
        patch.setattr(
            SuperResolution,
            "on_train_batch_start",
            lambda *_: signal.raise_signal(signal.SIGUSR1),
            raising=False,
        )
        assert command("fit", "--trainer.max_steps", 6) == 143
    assert "SLURM did not take job 7 back into its queue" in capsys.readouterr().err
    assert last()["global_step"] == 1


def test_interrupting_before_training_ends_the_process_with_its_temporary_files(command, tmp_path):
    """As in a download or while pictures are decoded, when there is nothing to save."""

    def prepare_data(_):
        (tmp_path / "prepared").touch()
        stop_after_this_step()

    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background of a shell
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolutionData, "prepare_data", prepare_data)
        with pytest.raises(KeyboardInterrupt):
            command("fit", "--trainer.max_steps", 2)
    assert (tmp_path / "prepared").exists() and not (tmp_path / "run" / "checkpoints").exists()
    assert signal.getsignal(signal.SIGINT) is before
