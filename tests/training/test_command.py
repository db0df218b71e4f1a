"""The training commands as a user runs them, on pictures of a few pixels."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from addersr import checkpoint
from addersr.cli import main as addersr
from addersr.data.module import SuperResolutionData
from addersr.errors import AdderSRError, CheckpointError, DataError, ImageError
from addersr.evaluation.metrics import psnr
from addersr.images.color import rgb_to_y
from addersr.images.resize import imresize
from addersr.models import presets
from addersr.training.command import _stop_after_this_step, main
from addersr.training.export import convert
from addersr.training.system import RECORD, SuperResolution

CONFIGS = Path(__file__).parents[2] / "configs"

pytestmark = [
    # Lightning 2.6 uses a class that torch has replaced since.
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    # It also calls jsonargparse in ways that will be gone in that package's next version.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


def last(tmp_path, name="last"):
    return torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def test_fit_leaves_checkpoints_a_configuration_and_tensorboards_files(command, tmp_path, data):
    assert command("fit", "--trainer.max_steps", 4, "--trainer.log_every_n_steps", 1) == 0
    run = tmp_path / "run"
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert (run / "config.yaml").is_file()

    record = last(tmp_path)[RECORD]
    assert record["steps"] == 4 and record["preset"] == "edsr_tiny_x2" and record["config"]["channels"] == 8
    assert record["data"]["train"] == {"train": 4} and record["data"]["validation"] == [
        "val/0000",
        "val/0001",
    ]
    assert record["recipe"]["adder_rate"] == 20

    events = EventAccumulator(str(run))
    events.Reload()
    scalars = {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert len(scalars["train/loss"]) == len(scalars["train/learning_rate"]) == 4
    assert scalars["val/psnr"] == [1, 3]  # Lightning counts the steps of a plot from 0
    assert {"learned/power.alpha", "learned/first.gain"} <= set(events.Tags()["histograms"])
    pictures = events.Tags()["images"]
    assert pictures == ["bicubic, SR, HR/val/0000", "bicubic, SR, HR/val/0001"]
    shown = events.Images(pictures[0])[0]
    assert (shown.width, shown.height) == (3 * 48 + 4 * 2, 36 + 2 * 2)  # three pictures and a frame


def test_training_lowers_the_loss_and_beats_bicubic_in_the_end(command, tmp_path, data):
    options = ("--model.warmup_steps", 5, "--data.batch_size", 8, "--trainer.val_check_interval", 150)
    losses = []

    def record(module, outputs, *_):
        losses.append(outputs["loss"].item())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, "on_train_batch_end", record, raising=False)
        assert command("fit", "--trainer.max_steps", 150, *options) == 0
    assert np.mean(losses[-30:]) < 0.9 * np.mean(losses[:30])
    best = last(tmp_path, "best")["callbacks"]
    score = next(
        state["best_model_score"].item() for state in best.values() if state.get("monitor") == "val/psnr"
    )
    bicubic = []
    for path in sorted((data / "val").iterdir()):
        hr = np.asarray(Image.open(path))
        up = imresize(imresize(hr, 0.5), 2)
        bicubic.append(psnr(*(rgb_to_y(picture)[2:-2, 2:-2] for picture in (up, hr))))
    assert score > np.mean(bicubic)


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
def test_a_resumed_run_equals_an_uninterrupted_one(command, tmp_path, batches, steps, options):
    every = ("--last.every_n_train_steps", 100, *options)
    assert command("fit", "--trainer.max_steps", 6, *every) == 0
    whole = last(tmp_path)
    (tmp_path / "run").rename(tmp_path / "whole")

    # The schedule needs its whole length from the start, so the first part is stopped and not planned shorter.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, "on_train_batch_end", stop_after(batches), raising=False)
        assert command("fit", "--trainer.max_steps", 6, *every) == 143
    assert last(tmp_path)["global_step"] == steps
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert command("fit", "--trainer.max_steps", 6, "--ckpt_path", path, *every) == 0

    resumed = last(tmp_path)
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


def test_interrupting_the_process_saves_the_run(tmp_path, data):
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
    content = last(tmp_path)
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


@pytest.mark.parametrize("limit", [None, 0.001])
def test_the_gradients_norm_can_be_bounded(command, limit):
    norms = []

    def record(optimizer, *_):
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            SuperResolution,
            "on_train_start",
            lambda module: module.trainer.optimizers[0].register_step_post_hook(record),
            raising=False,
        )
        words = () if limit is None else ("--trainer.gradient_clip_val", limit)
        assert command("fit", "--trainer.max_steps", 3, *words) == 0
    assert len(norms) >= 3
    assert min(norms) > 0.01 if limit is None else max(norms) <= limit * 1.001


def test_averaged_weights_lag_behind_and_are_those_of_best(command, tmp_path):
    assert command("fit", "--trainer.max_steps", 4) == 0
    content = last(tmp_path)
    averaged, current = content["state_dict"], content["current_model_state"]
    assert not torch.equal(averaged["model.head.weight"], current["model.head.weight"])
    name = "model.body.0.first.norm.running_mean"  # BatchNorm's statistics are averaged too
    assert not torch.equal(averaged[name], current[name])
    counter = "model.body.0.first.norm.num_batches_tracked"
    assert averaged[counter] == current[counter] == 4


def test_averaging_can_be_switched_off(command, tmp_path):
    assert command("fit", "--trainer.max_steps", 3, "--ema.decay", 0) == 0
    content = last(tmp_path)
    assert_equal(content["state_dict"], content["current_model_state"])
    assert convert(content)[1]["averaged"] is False
    del content[RECORD]["recipe"]["ema_decay"]  # as in checkpoints of older versions
    assert convert(content)[1]["averaged"] is True


def test_the_average_is_the_exponential_one(command, tmp_path):
    """Held against the recursion on the weights after each step, with the decay's warm-up."""
    weights = []

    def record(module, *_):
        weights.append(module.model.head.weight.detach().clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, "on_train_batch_end", record, raising=False)
        patch.setattr(SuperResolution, "on_train_start", record, raising=False)
        assert command("fit", "--trainer.max_steps", 5, "--ema.decay", 0.3) == 0
    expected = weights[1]  # the average starts with the first step's weights
    for step, value in enumerate(weights[2:], 2):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(last(tmp_path)["state_dict"]["model.head.weight"], expected)


def test_a_run_is_not_overwritten(command, tmp_path):
    assert command("fit", "--trainer.max_steps", 1) == 0
    before = last(tmp_path)["state_dict"]
    with pytest.raises(CheckpointError, match=r"holds a run already.*--ckpt_path"):
        command("fit", "--trainer.max_steps", 1, "--data.seed", 5)
    assert_equal(last(tmp_path)["state_dict"], before)


def test_the_saved_configuration_resumes_the_run(command, tmp_path):
    assert command("fit", "--trainer.max_steps", 2) == 0
    run = tmp_path / "run"
    words = ["fit", "-c", f"{run}/config.yaml", "--ckpt_path", f"{run}/checkpoints/last.ckpt"]
    assert addersr([*words, "--trainer.max_steps", "3"]) == 0
    assert last(tmp_path)["global_step"] == 3
    assert "ckpt_path: null" in (run / "config.yaml").read_text()


def test_export_writes_the_averaged_weights_with_their_card(command, tmp_path, capsys):
    assert command("fit", "--trainer.max_steps", 2) == 0
    path, weights = tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "w.safetensors"
    words = ["export", str(path), "-o", str(weights), "--card", "licence=CC BY", "--card", "psnr=[1, 2]"]
    assert addersr(words) == 0
    assert "averaged weights of step 2" in capsys.readouterr().out
    loaded = checkpoint.load(weights)
    averaged = {k.removeprefix("model."): v for k, v in last(tmp_path)["state_dict"].items()}
    assert_equal(loaded.model.state_dict(), averaged)
    card = loaded.metadata
    assert card["steps"] == 2 and card["preset"] == "edsr_tiny_x2" and card["averaged"] is True
    assert card["data"]["train"] == {"train": 4} and card["recipe"]["loss"] == "L1"
    assert card["licence"] == "CC BY" and card["psnr"] == [1, 2]


def test_fine_tuning_starts_from_given_weights(command, tmp_path):
    assert command("fit", "--trainer.max_steps", 2) == 0
    weights = tmp_path / "w.safetensors"
    assert addersr(["export", str(tmp_path / "run/checkpoints/last.ckpt"), "-o", str(weights)]) == 0
    start = SuperResolution("edsr_tiny_x2", init_weights=str(weights))
    assert_equal(start.model.state_dict(), checkpoint.load(weights).model.state_dict())
    with pytest.raises(CheckpointError, match="another network: channels differ"):
        SuperResolution("edsr_tiny_x2", overrides={"channels": 4}, init_weights=str(weights))


def test_validate_test_and_predict_take_a_checkpoint(command, tmp_path, data, capsys):
    assert command("fit", "--trainer.max_steps", 2) == 0
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    assert command("validate", "--ckpt_path", best) == 0
    assert "val/psnr" in capsys.readouterr().out
    assert command("test", "--ckpt_path", best, "--data.test_dirs", f"[{data / 'val'}]") == 0
    assert "test/ssim" in capsys.readouterr().out
    words = ("--data.predict_dirs", f"[{data / 'lr'}]", "--writer.folder", tmp_path / "out")
    assert command("predict", "--ckpt_path", best, *words) == 0
    with Image.open(tmp_path / "out" / "lr" / "0000.png") as picture:
        assert picture.size == (96, 72)
    with pytest.raises(ImageError, match=r"0000\.png is there already.*--writer\.folder"):
        command("predict", "--ckpt_path", best, *words)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before


@pytest.fixture
def weights(tmp_path):
    """A network's first weights."""
    path = tmp_path / "first.safetensors"
    checkpoint.save(path, presets.build("edsr_tiny_x2"), {})
    return path


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
def test_no_untrained_network_is_scored(command, subcommand):
    with pytest.raises(CheckpointError, match=r"trained network: give --ckpt_path.*--model\.init_weights"):
        command(subcommand)


def test_predictions_of_one_name_are_kept_apart_or_refused(command, tmp_path, data, weights):
    picture = Image.open(data / "lr" / "0000.png")
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        picture.save(tmp_path / name)
    words = ("--model.init_weights", weights, "--data.predict_dirs", f"[{tmp_path / 'a'}, {tmp_path / 'b'}]")
    out = tmp_path / "out"
    assert command("predict", *words, "--writer.folder", out) == 0
    assert {str(p.relative_to(out)) for p in out.rglob("*.png")} == {"a/x.png", "b/x.png"}
    picture.save(tmp_path / "b" / "x.webp")
    with pytest.raises(ImageError, match=r"x\.png and .*x\.webp would both become .*rename"):
        command("predict", *words, "--writer.folder", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_picture_too_small_to_be_scored_is_named(command, tmp_path, weights):
    (tmp_path / "small").mkdir()
    Image.new("RGB", (40, 14)).save(tmp_path / "small" / "flat.png")
    words = ("--model.init_weights", weights, "--data.test_dirs", f"[{tmp_path / 'small'}]")
    with pytest.raises(DataError, match=r"small/flat is too small to be scored: 36x10 .* 11x11"):
        command("test", *words)


def test_validating_decodes_the_held_out_pictures_alone(command, tmp_path, weights):
    words = (
        "--data.val_dirs",
        "[]",
        "--data.holdout",
        "[train/0001*]",
        "--data.cache_dir",
        tmp_path / "cache",
    )
    assert command("validate", "--model.init_weights", weights, *words) == 0
    assert len(list((tmp_path / "cache").iterdir())) == 2  # HR and LR of one


@pytest.mark.parametrize(
    ("stage", "holdout", "folders"),
    [
        ("fit", [], ["T", "V"]),
        ("validate", [], ["V"]),
        ("validate", ["T/*"], ["T", "V"]),
        ("test", [], ["S"]),
        ("predict", [], []),
    ],
)
def test_only_what_a_command_looks_into_is_fetched(stage, holdout, folders):
    data = SuperResolutionData(["T"], ["V"], ["S"], ["P"], holdout)
    assert data._needed(stage) == folders


def test_held_out_pictures_are_validated_on_and_not_trained_on(command, tmp_path):
    words = ("--data.val_dirs", "[]", "--data.holdout", "[train/0001*]", "--trainer.max_steps", 2)
    assert command("fit", *words) == 0
    described = last(tmp_path)[RECORD]["data"]
    assert described["train"] == {"train": 3} and described["validation"] == ["train/0001"]


def test_a_convolutional_twin_and_another_scale_train(command, tmp_path):
    words = ("--model.overrides.unit", "conv", "--model.preset", "edsr_tiny_x3", "--trainer.max_steps", 2)
    assert command("fit", *words) == 0
    config = last(tmp_path)[RECORD]["config"]
    assert config["unit"] == "conv" and config["scale"] == 3


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--data.train_dirs", "[nowhere]"], DataError, "there is no folder nowhere.*--data.train_dirs"),
        (["--data.val_dirs", "[]"], DataError, "nothing to validate on"),
        (["--data.train_dirs", "[]"], DataError, "--data.train_dirs"),
        (["--data.patch", "500"], DataError, "--data.patch"),
        (["--data.patch", "0"], DataError, "--data.patch must be at least 1, got 0"),
        (["--data.batch_size", "0"], DataError, "--data.batch_size must be at least 1, got 0"),
        (["--data.scale", "3"], DataError, "--data.scale 3 is not the network's, 2"),
        (["--model.learning_rate", "0"], AdderSRError, "--model.learning_rate must be above 0"),
        (["--ema.decay", "1"], AdderSRError, "--ema.decay must be at least 0 and below 1, got 1"),
        (["--ema.decay", "-0.1"], AdderSRError, "--ema.decay must be at least 0 and below 1"),
        (["--model.preset", "edsr_huge_x2"], CheckpointError, "edsr_huge_x2"),
        (["--model.overrides.wings", "2"], AdderSRError, "--model.overrides do not fit edsr_tiny_x2.*wings"),
        (["--model.init_weights", "none.safetensors"], CheckpointError, "none.safetensors"),
        (["--ckpt_path", "none.ckpt"], CheckpointError, "there is no checkpoint none.ckpt"),
        (["--trainer.max_steps", "-1"], AdderSRError, "--trainer.max_steps"),
        (["--trainer.enable_progress_bar", "false"], AdderSRError, "progress"),
    ],
)
def test_errors_are_one_line_that_names_the_option(command, words, error, message):
    with pytest.raises(error, match=message) as caught:
        command("fit", *(() if "--trainer.max_steps" in words else ("--trainer.max_steps", 2)), *words)
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_says_how_to_run_it_and_needs_nothing_but_its_data(path, tmp_path, monkeypatch):
    words = path.read_text().split("\n")[0].removeprefix("# addersr ").split()
    assert words[:3] == ["fit", "-c", f"configs/{path.name}"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no folder data/DIV2K/DIV2K_train_HR.*--data\.download true"):
        main(["fit", "-c", str(path), "--trainer.accelerator", "cpu"])


def test_the_module_can_be_used_without_a_trainer():
    assert SuperResolutionData(scale=3).scale == 3
