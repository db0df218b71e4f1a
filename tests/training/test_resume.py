"""A resumed run: bit for bit what it would have been, but for what the command line changes."""

import re
import signal
from functools import cache

import pytest
import torch
from PIL import Image

from addersr.errors import CheckpointError
from addersr.training.command import main
from addersr.training.resume import _differences
from addersr.training.system import RECORD, SuperResolution

# A step from the start on that moves the weights, so that the best checkpoint changes.
PLAIN = ("--trainer.max_steps", "6", "--model.warmup_steps", "0")
SGD = ("--model.optimizer", "sgd", "--model.learning_rate", "0.1", "--model.adder_rate", "1")
LOCAL = ("--model.adaptive_eta", "0.2", "--trainer.accumulate_grad_batches", "2")
EVERY_3 = (*PLAIN, *LOCAL, "--trainer.val_check_interval", "3", "--last.every_n_train_steps", "2")
WORKERS = ("--data.num_workers", "2")


def flat(value, path=""):
    """Path -> leaf of a checkpoint, without where its files were, and two things of Lightning's that mean nothing:

    how often it validated (a repeated validation counts) and the score at the last validation, which it forgets.
    """
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, part in items for k, v in flat(part, f"{path}/{name}").items()}
    ignored = ("dirpath", "_path", "best_k_models", "current_score", "val_loop.batch_progress/total")
    return {} if any(word in path for word in ignored) else {path: value}


def assert_same(one, other):
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for path, value in one.items():
        same = torch.equal(value, other[path]) if isinstance(value, torch.Tensor) else value == other[path]
        assert same, f"{path}: {value} and {other[path]}"


@pytest.fixture(scope="module")
def uninterrupted(command_line, tmp_path_factory):
    """uninterrupted(*options) -> (last.ckpt, best.ckpt) of such a run."""

    @cache
    def run(*options):
        folder = tmp_path_factory.mktemp("whole")
        assert main(command_line("fit", folder, *options)) == 0
        return [
            torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
            for name in ("last", "best")
        ]

    return run


def stop_after(batches):
    def on_train_batch_end(module, outputs, batch, batch_idx):
        if batch_idx + 1 == batches:
            signal.raise_signal(signal.SIGTERM)

    return "on_train_batch_end", on_train_batch_end


def stop_in_validation(picture):
    """At a picture of all those validated on in training; each time it is two."""
    seen = []
    original = SuperResolution.validation_step

    def validation_step(module, batch, batch_idx):
        seen.append(not module.trainer.sanity_checking)
        if sum(seen) == picture and seen[-1]:
            signal.raise_signal(signal.SIGTERM)
        return original(module, batch, batch_idx)

    return "validation_step", validation_step


@pytest.mark.parametrize(
    ("stop", "steps", "options", "changed"),
    [
        (stop_after(1), 1, PLAIN, ()),
        (stop_after(4), 4, PLAIN, ()),  # at a validation
        (stop_in_validation(3), 4, PLAIN, ()),  # which is then repeated
        (stop_after(3), 3, PLAIN, WORKERS),  # workers change nothing
        (stop_after(4), 2, EVERY_3, ()),  # where a checkpoint is due by itself
        (stop_after(5), 3, EVERY_3, ()),  # within a step, which is completed first
        (stop_after(3), 2, EVERY_3, ()),  # the same before a validation
        (stop_after(3), 3, (*PLAIN, *SGD), ()),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    command, last, uninterrupted, stop, steps, options, changed
):
    """All that is in the checkpoints: weights, average, optimiser, schedule, counters, scores, random states."""
    whole = uninterrupted(*options)
    # The schedule needs its whole length from the start, so the first part is stopped and not planned shorter.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, *stop, raising=False)
        assert command("fit", *options, *changed) == 143
    assert last()["global_step"] == steps
    assert command("fit", *options, *changed, "--ckpt_path", "last") == 0
    assert_same(last(), whole[0])
    assert_same(last("best"), whole[1])


def test_what_is_random_in_training_goes_on_too(command, last, tmp_path):
    """Nothing is yet, but for what torch's loaders draw; here the loss is."""

    def training_step(module, batch, batch_idx):
        return module.model(batch.lr).mean() * torch.rand(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, "training_step", training_step)
        options = (*PLAIN, "--ema.decay", 0)
        assert command("fit", *options, "--run_dir", tmp_path / "whole") == 0
        whole = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
        patch.setattr(SuperResolution, *stop_after(3), raising=False)
        assert command("fit", *options) == 143
        patch.delattr(SuperResolution, "on_train_batch_end")
        assert command("fit", *options, "--ckpt_path", "last") == 0
    assert_same(last(), whole)


def test_a_run_resumed_at_a_step_that_is_due_is_not_saved_within_the_next(command, last, tmp_path):
    """Then last.ckpt would hold the statistics of a batch whose gradient it has not."""
    assert command("fit", *EVERY_3, "--trainer.max_steps", 2) == 0
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()

    def fail(*_):
        raise RuntimeError("the power is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, "on_train_batch_end", fail, raising=False)
        with pytest.raises(RuntimeError, match="power"):
            command("fit", *EVERY_3, "--ckpt_path", "last")
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_the_command_line_beats_the_checkpoint_and_says_so(command, last, said):
    assert command("fit", *PLAIN, "--trainer.max_steps", 3) == 0
    changed = {
        "--model.learning_rate": 2e-4,
        "--model.adder_rate": 5,
        "--model.betas": "[0.8, 0.9]",
        "--model.warmup_steps": 8,
        "--trainer.max_steps": 5,
        "--ema.decay": 0,
        "--data.batch_size": 3,
    }
    words = [word for option in changed.items() for word in option]
    assert command("fit", *PLAIN, *words, "--ckpt_path", "last") == 0
    for change in ("learning_rate 0.002 -> 0.0002", "max_steps 3 -> 5", "data.batch_size 2 -> 3"):
        assert re.search(
            f"Going on with other values than the checkpoint's: .*{re.escape(change)}", said.text
        )
    assert "final_rate" not in said.text  # which is as it was
    content = last()
    rest, adder = content["optimizer_states"][0]["param_groups"]
    rate = 2e-4 * (5 + 1) / (8 + 1)  # of the warming up, after 5 steps
    assert rest["lr"] == pytest.approx(rate) and adder["lr"] == pytest.approx(5 * rate)
    assert rest["initial_lr"] == 2e-4 and rest["betas"] == adder["betas"] == (0.8, 0.9)
    (schedule,) = content["lr_schedulers"]
    assert schedule["base_lrs"] == [2e-4, pytest.approx(1e-3)]
    assert_same(content["state_dict"], content["current_model_state"])
    assert content[RECORD]["recipe"]["learning_rate"] == 2e-4


def test_a_seed_on_the_command_line_is_not_overridden(command, last):
    assert command("fit", *PLAIN, "--trainer.max_steps", 1) == 0
    states = []
    for seed in (0, 1):
        assert command("fit", *PLAIN, "--trainer.max_steps", 1 + seed + 1, "--ckpt_path", "last",
                       "--seed_everything", seed) == 0  # fmt: skip
        (state,) = (state for name, state in last()["callbacks"].items() if name == "Resume")
        states.append(state["python"])
    assert states[0] != states[1]


@pytest.mark.parametrize("key", ["recipe", "data", "max_steps", "loops"])
def test_a_checkpoint_that_lacks_something_is_refused(command, last, tmp_path, key):
    assert command("fit", *PLAIN, "--trainer.max_steps", 1) == 0
    content, path = last(), tmp_path / "less.ckpt"
    del (content if key == "loops" else content[RECORD])[key]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"--ckpt_path lacks {key}: it is damaged"):
        command("fit", *PLAIN, "--run_dir", tmp_path / "other", "--ckpt_path", path)


def test_epochs_of_few_batches_go_on_in_the_stream(command, last, uninterrupted):
    options = (*PLAIN, "--ema.decay", 0)
    whole, _ = uninterrupted(*options)
    few = ("--trainer.limit_train_batches", 2, "--trainer.log_every_n_steps", 1)
    assert command("fit", *options, *few) == 0
    assert last()["global_step"] == whole["global_step"]
    assert_same(last()["state_dict"], whole["state_dict"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--model.adaptive_eta", 0.2),
            "state of Adam, which Adam, adaptive local rate .* cannot go on with",
        ),
        (SGD, "state of Adam, which SGD cannot go on with"),
        (("--trainer.accumulate_grad_batches", 3), "2 steps in 2 batches.*accumulate_grad_batches 3"),
        (("--model.init_from", "WEIGHTS"), "both bring weights; leave one of them out"),
    ],
)
def test_what_cannot_go_on_from_the_checkpoint_is_refused(command, weights, last, words, message):
    assert command("fit", *PLAIN, "--trainer.max_steps", 2) == 0
    words = [weights if word == "WEIGHTS" else word for word in words]
    with pytest.raises(CheckpointError, match=message) as caught:
        command("fit", *PLAIN, *words, "--ckpt_path", "last")
    assert "\n" not in str(caught.value) and last()["global_step"] == 2


def test_a_fine_tuned_run_is_resumed_with_the_weights_it_started_from(command, weights, last):
    words = (*PLAIN, "--model.init_from", weights)
    assert command("fit", *words, "--trainer.max_steps", 1) == 0
    assert command("fit", *words, "--trainer.max_steps", 2, "--ckpt_path", "last") == 0
    assert last()["global_step"] == 2


def test_last_is_a_fresh_start_where_there_is_none(command, last):
    assert command("fit", *PLAIN, "--trainer.max_steps", 1, "--ckpt_path", "last") == 0
    assert last()["global_step"] == 1


@pytest.mark.parametrize("options", [PLAIN, (*EVERY_3, "--trainer.val_check_interval", "5")])
def test_a_run_is_validated_at_its_end_which_changes_nothing_when_it_is_resumed(
    command, last, uninterrupted, monkeypatch, options
):
    """But that its last step is one more for best.ckpt to choose from."""
    options = (*options, "--model.warmup_steps", "100")  # until then the schedule does not ask how long it is
    (whole, _) = uninterrupted(*options)
    monkeypatch.setattr(
        SuperResolution, "score", lambda module, *_: torch.tensor(float(module.trainer.global_step))
    )
    assert command("fit", *options, "--trainer.max_steps", 3) == 0
    assert last("best")["global_step"] == 3
    assert command("fit", *options, "--ckpt_path", "last") == 0
    content = last()
    for checkpoint in (whole, content):
        (best,) = (name for name in checkpoint["callbacks"] if name.startswith("BestCheckpoint"))
        del checkpoint["callbacks"][best]
    assert_same(content, whole)


def test_a_run_resumed_knows_the_score_of_its_end(command, last, monkeypatch):
    """It is in best.ckpt and not in last.ckpt, which is written before."""
    monkeypatch.setattr(
        SuperResolution, "score", lambda module, *_: torch.tensor(-float(module.trainer.global_step))
    )
    for steps in (1, 3):
        assert command("fit", *PLAIN, "--trainer.max_steps", steps, "--ckpt_path", "last") == 0
        assert last()["global_step"] == steps and last("best")["global_step"] == 1


def test_a_run_stopped_in_its_last_step_does_not_validate_all_pictures(command, last, monkeypatch):
    validated = []
    original = SuperResolution.validation_step

    def validation_step(module, batch, batch_idx):
        validated.append(batch.name)
        return original(module, batch, batch_idx)

    monkeypatch.setattr(SuperResolution, *stop_after(3), raising=False)
    monkeypatch.setattr(SuperResolution, "validation_step", validation_step)
    words = (
        "--trainer.max_steps",
        3,
        "--trainer.val_check_interval",
        100,
        "--trainer.num_sanity_val_steps",
        0,
    )
    assert command("fit", *words) == 143
    assert last()["global_step"] == 3 and len(validated) == 1


def test_on_other_validation_pictures_the_best_score_begins_anew(command, last, tmp_path, said):
    """Of the same names, and with lower scores."""
    (tmp_path / "val").mkdir()
    for number in range(2):
        Image.new("RGB", (48, 36), "gray").save(tmp_path / "val" / f"{number:04}.png")
    assert command("fit", *PLAIN, "--trainer.max_steps", 2, "--data.val_dirs", f"[{tmp_path / 'val'}]") == 0
    assert last("best")["global_step"] == 2
    before = (tmp_path / "run" / "checkpoints" / "best.ckpt").read_bytes()
    # one step is saved, and killed before it is validated
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, *stop_after(3), raising=False)
        words = (*PLAIN, "--trainer.val_check_interval", 100, "--ckpt_path", "last")
        patch.setattr("addersr.training.callbacks.BestCheckpoint.on_validation_end", lambda *_: None)
        assert command("fit", *words) == 143
    assert (
        "the best score begins anew" in said.text
        and "data.validation 2 of val -> other pictures" in said.text
    )
    said.clear()
    assert command("fit", *PLAIN, "--trainer.max_steps", 6, "--ckpt_path", "last") == 0
    assert "begins anew" not in said.text and "best.ckpt was chosen by other scores" in said.text
    assert last("best")["global_step"] > 2
    assert (tmp_path / "run" / "checkpoints" / "best.1.ckpt").read_bytes() == before


def test_all_that_is_computed_otherwise_is_said_and_what_has_no_effect_is_not(command, last, data, said):
    assert command("fit", *PLAIN, "--trainer.max_steps", 1) == 0
    changed = {
        "--trainer.precision": "64-true",
        "--data.train_dirs": f"[{data / 'train'}, {data / 'lr'}]",
        "--data.holdout": '["train/0001*"]',
        "--model.filter_std": 0.5,
        "--trainer.max_steps": 2,
    }
    words = [word for option in changed.items() for word in option]
    assert command("fit", *PLAIN, *words, "--ckpt_path", "last") == 0
    (line,) = {
        r.getMessage() for r in said.records if r.getMessage().startswith("Going on with other values")
    }
    assert line.partition(": ")[2] == (
        "precision 32-true -> 64-true, max_steps 1 -> 2, data.holdout [] -> ['train/0001*'], "
        "data.train 4 of train -> 3 of train and 1 of lr, data.validation 2 of val -> 1 of train and 2 of val"
    )
    assert "Without effect where the weights are a checkpoint's: filter_std 1.0 -> 0.5" in said.text
    assert last()[RECORD]["recipe"]["filter_std"] == 1.0


def test_another_number_of_processes_is_said(command, last):
    assert command("fit", *PLAIN, "--trainer.max_steps", 1) == 0
    then = last()[RECORD]
    now = then | {"recipe": then["recipe"] | {"processes": 2}}
    assert _differences(then, now) == "processes 1 -> 2" and _differences(then, then) == ""


def test_a_checkpoint_of_before_files_were_recorded_is_resumed_and_compared_by_names(
    command, last, tmp_path, data, said
):
    assert command("fit", *PLAIN, "--trainer.max_steps", 2) == 0
    content = last()
    del content[RECORD]["data"]["fingerprints"], content[RECORD]["recipe"]["limit_val_batches"]
    torch.save(content, tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert command("fit", *PLAIN, "--trainer.max_steps", 3, "--ckpt_path", "last") == 0
    assert "begins anew" not in said.text and "data." not in said.text
    torch.save(content, tmp_path / "run" / "checkpoints" / "last.ckpt")
    words = ("--data.val_dirs", f"[{data / 'lr'}]", "--ckpt_path", "last")
    assert command("fit", *PLAIN, *words, "--trainer.max_steps", 3) == 0
    assert "begins anew" in said.text and "data.validation 2 of val -> 1 of lr" in said.text
