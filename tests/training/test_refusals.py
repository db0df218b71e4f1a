"""What a training command refuses, in one line."""

from functools import partial

import pytest
import torch
from PIL import Image

from addersr.cli import main as addersr
from addersr.data import lock
from addersr.data.lock import locked
from addersr.errors import AdderSRError, CheckpointError, DataError
from addersr.training.system import SuperResolution

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)


def test_a_run_is_not_overwritten(command, last):
    assert command("fit", "--trainer.max_steps", 1) == 0
    before = last()["state_dict"]
    with pytest.raises(CheckpointError, match=r"holds a run already.*--ckpt_path"):
        command("fit", "--trainer.max_steps", 1, "--data.seed", 5)
    assert_equal(last()["state_dict"], before)


def test_a_folder_in_which_another_run_trains_is_left_alone(command, tmp_path, last):
    run = tmp_path / "run"
    run.mkdir()
    with locked(run / ".lock", ""), pytest.raises(CheckpointError) as caught:
        command("fit", "--trainer.max_steps", 1, "--ckpt_path", "last")
    assert str(caught.value).startswith(f"another process is training in {run}: ")
    assert not any(run.iterdir())
    for steps in (1, 2):
        assert command("fit", "--trainer.max_steps", steps, "--ckpt_path", "last") == 0
        assert last()["global_step"] == steps and not (run / ".lock").exists()


def test_where_there_are_no_locks_a_run_says_so_and_goes_on(command, monkeypatch, capsys):
    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    assert command("fit", "--trainer.max_steps", 1) == 0
    assert "run cannot be locked here; see that no other process trains in it\n" in capsys.readouterr().err


def test_a_run_folder_that_cannot_be_is_told_in_one_line(command, tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(CheckpointError, match=r"run cannot be written to: .*--run_dir$"):
        command("fit", "--trainer.max_steps", 1)


def test_a_patch_that_no_picture_has_is_refused_before_anything_is_computed(command, monkeypatch):
    monkeypatch.setattr(SuperResolution, "validation_step", lambda *_: pytest.fail("it is validated first"))
    with pytest.raises(DataError, match=r"500x500 LR pixels; take a smaller --data\.patch"):
        command("fit", "--trainer.max_steps", 1, "--data.patch", 500)


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
def test_no_untrained_network_is_scored(command, subcommand):
    with pytest.raises(CheckpointError, match=r"trained network: give --ckpt_path.*--model\.init_from"):
        command(subcommand)


def test_a_picture_too_small_to_be_scored_is_named(command, tmp_path, weights):
    (tmp_path / "small").mkdir()
    Image.new("RGB", (40, 14)).save(tmp_path / "small" / "flat.png")
    words = ("--model.init_from", weights, "--data.test_dirs", f"[{tmp_path / 'small'}]")
    with pytest.raises(DataError, match=r"small/flat is too small to be scored: 36x10 .* 11x11"):
        command("test", *words)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--data.train_dirs", "[nowhere]"], DataError, "there is no folder nowhere.*--data.train_dirs"),
        (["--data.val_dirs", "[]"], DataError, "nothing to validate on"),
        (["--data.train_dirs", "[]"], DataError, "--data.train_dirs"),
        (["--data.patch", "500"], DataError, "--data.patch"),
        (["--data.patch", "0"], DataError, "--data.patch must be at least 1, got 0"),
        (["--data.seed", "-1"], DataError, "--data.seed must be at least 0, got -1"),
        (["--data.num_workers", "-1"], DataError, "--data.num_workers must be at least 0, got -1"),
        (["--data.batch_size", "0"], DataError, "--data.batch_size must be at least 1, got 0"),
        (["--data.scale", "3"], DataError, "--data.scale 3 is not the network's, 2"),
        (["--model.learning_rate", "0"], AdderSRError, "--model.learning_rate must be above 0"),
        (["--model.adaptive_eta", "0"], AdderSRError, "--model.adaptive_eta must be above 0, got 0"),
        (["--model.warmup_steps", "-1"], AdderSRError, "--model.warmup_steps must be at least 0, got -1"),
        (["--model.final_rate", "-0.5"], AdderSRError, "--model.final_rate must be at least 0"),
        (["--model.betas", "[0.9,1]"], AdderSRError, "--model.betas must be at least 0 and below 1"),
        (["--ema.decay", "1"], AdderSRError, "--ema.decay must be at least 0 and below 1, got 1"),
        (["--ema.decay", "-0.1"], AdderSRError, "--ema.decay must be at least 0 and below 1"),
        (["--model.preset", "edsr_huge_x2"], CheckpointError, "edsr_huge_x2"),
        (
            ["--model.overrides.wings", "2"],
            AdderSRError,
            r"^--model\.overrides\.wings: edsr_tiny_x2 has no such option, it has .*blocks, .*channels, ",
        ),
        (
            ["--model.overrides.residual_scaling", "much"],
            AdderSRError,
            "--model.overrides do not fit edsr_tiny_x2: residual_scaling must be a finite number, got 'much'",
        ),
        (
            ["--model.overrides.unit", "wood"],
            AdderSRError,
            "--model.overrides do not fit edsr_tiny_x2: .*wood",
        ),
        (["--model.init_from", "none.safetensors"], CheckpointError, "none.safetensors"),
        (["--ckpt_path", "none.ckpt"], CheckpointError, "there is no checkpoint none.ckpt"),
        (["--trainer.max_steps", "-1"], AdderSRError, "--trainer.max_steps"),
        (["--trainer.enable_progress_bar", "false"], AdderSRError, "progress"),
    ],
)
def test_errors_are_one_line_that_names_the_option(command, words, error, message):
    with pytest.raises(error, match=message) as caught:
        command("fit", *(() if "--trainer.max_steps" in words else ("--trainer.max_steps", 2)), *words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--foo", "3"], "unrecognized arguments: --foo 3 (see `addersr fit --help`)"),
        (
            ["--trainer.max_steps", "foo"],
            "Parser key \"trainer.max_steps\": Expected a <class 'int'>. Got value: foo",
        ),
        (["--model.learning_rat", "1"], "unrecognized arguments: --model.learning_rat 1"),
        (["-c", "none.yaml"], "File does not exist"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(command, capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        command("fit", *words)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("addersr: error: ") and message in line


def test_validating_on_training_pictures_is_refused(command, data):
    with pytest.raises(DataError, match="is in both"):
        command("fit", "--trainer.max_steps", 2, "--data.val_dirs", f"[{data / 'train'}]")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_refused(command, tmp_path, content):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.ckpt is not a checkpoint"):
        command("fit", "--trainer.max_steps", 2, "--ckpt_path", path)
    with pytest.raises(CheckpointError, match=r"bad\.ckpt is not a checkpoint"):
        command("validate", "--ckpt_path", path)
    assert addersr(["export", str(path), "-o", str(tmp_path / "w.safetensors")]) == 1


def test_a_pickle_that_runs_code_is_refused(command, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "evil"), "w"))

    torch.save({"state_dict": {}, "x": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError):
        command("fit", "--trainer.max_steps", 2, "--ckpt_path", tmp_path / "evil.ckpt")
    assert not (tmp_path / "evil").exists()


def test_a_checkpoint_of_another_network_is_refused(command, tmp_path):
    assert command("fit", "--trainer.max_steps", 1) == 0
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError, match="channels differ"):
        command("fit", "--trainer.max_steps", 2, "--ckpt_path", path, "--model.overrides.channels", 4)
