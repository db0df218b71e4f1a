"""A student beside a frozen teacher, the optimiser's choice, the filters' start."""

from functools import partial

import pytest
import torch

from addersr import checkpoint
from addersr.data.module import SuperResolutionData
from addersr.data.pairs import Batch
from addersr.errors import AdderSRError, CheckpointError
from addersr.models import build
from addersr.training.command import main
from addersr.training.distillation import Teacher
from addersr.training.system import RECORD, SuperResolution

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)


@pytest.fixture
def teacher(tmp_path):
    """A convolutional twin whose results are not the bilinear picture, and brighter."""
    torch.manual_seed(0)
    model = build("edsr_tiny_x2", unit="conv", residual_scaling=1.0)
    torch.nn.init.normal_(model.tail.weight, std=0.02)
    torch.nn.init.constant_(model.tail.bias, 0.1)
    path = tmp_path / "teacher.safetensors"
    checkpoint.save(path, model, {})
    return path


def test_the_loss_is_the_weighted_sum_of_both_distances(teacher, monkeypatch):
    lr, hr = torch.rand(2, 3, 6, 6), torch.rand(2, 3, 12, 12)
    with torch.no_grad():
        target = checkpoint.load(teacher).model(lr)
    monkeypatch.setattr(SuperResolution, "log", lambda *args, **kwargs: None)
    for weight in (0.0, 0.5, 2.0):
        torch.manual_seed(0)
        student = SuperResolution("edsr_tiny_x2", teacher=str(teacher), distillation=weight)
        student.read_weights(training=True)
        monkeypatch.setattr(student, "_trainer", FakeTrainer())
        sr = student.model(lr)
        expected = (sr - hr).abs().mean() + weight * (sr - target).abs().mean()
        torch.testing.assert_close(student.training_step(Batch(lr, hr), 0), expected)


class FakeTrainer:
    """As much of a trainer as a training step asks for."""

    class _Optimizer:
        param_groups = ({"lr": 1.0},)

    optimizers = (_Optimizer(),)


def test_a_student_comes_to_resemble_its_teacher_which_stays_as_it_was(command, teacher, last):
    options = (
        f"--model.teacher {teacher} --model.warmup_steps 0 --model.learning_rate 0.01 --ema.decay 0".split()
    )
    before = checkpoint.load(teacher).model.state_dict()
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, "on_fit_end", lambda system: made.append(system), raising=False)
        assert (
            command(
                "fit",
                "--trainer.max_steps",
                20,
                "--model.distillation",
                100,
                "--trainer.val_check_interval",
                20,
                *options,
            )
            == 0
        )
    (system,) = made
    assert_equal(system.teacher.model.state_dict(), before)
    assert not system.teacher.model.training
    content = last()
    own = {name.removeprefix("model.") for name in content["current_model_state"]}
    assert own == set(system.model.state_dict()), "a checkpoint has the student alone"
    assert content[RECORD]["recipe"]["teacher"] == str(teacher)
    assert content[RECORD]["recipe"]["distillation"] == 100
    groups = content["optimizer_states"][0]["param_groups"]
    assert sum(len(group["params"]) for group in groups) == len(list(system.model.parameters()))

    lr = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    first = SuperResolution("edsr_tiny_x2").model
    with torch.no_grad():
        far = system.teacher.distance(lr, first(lr))
        near = system.teacher.distance(lr, system.model.train()(lr))
    assert near < 0.8 * far


def test_a_resumed_student_goes_on_with_its_teacher(command, teacher, last, tmp_path):
    """By the run's own configuration, as the README has it."""
    assert command("fit", "--trainer.max_steps", 2, "--model.teacher", teacher) == 0
    run = tmp_path / "run"
    words = ["-c", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "last.ckpt"]
    assert main(["fit", *map(str, words), "--trainer.max_steps", "3"]) == 0
    assert last()["global_step"] == 3 and last()[RECORD]["recipe"]["teacher"] == str(teacher)


def test_a_finished_run_needs_no_teacher_and_a_resumed_one_says_where_it_was(
    command, teacher, last, data, said
):
    """Nor the weights that it started from, once there are its own."""
    start = teacher.with_name("start.safetensors")
    checkpoint.save(start, build("edsr_tiny_x2"), {})
    words = ("--model.teacher", teacher, "--model.init_from", start)
    assert command("fit", "--trainer.max_steps", 1, *words) == 0
    moved = teacher.rename(teacher.with_name("moved.safetensors"))
    start.unlink()
    score = ("--ckpt_path", start.parent / "run" / "checkpoints" / "last.ckpt", *words)
    assert command("validate", *score) == 0
    assert command("test", "--data.test_dirs", f"[{data / 'val'}]", *score) == 0
    resume = ("fit", "--trainer.max_steps", 2, "--ckpt_path", "last", *words)
    with pytest.raises(
        CheckpointError, match=r"^--model\.teacher: no weights are called .*teacher\.safetensors"
    ):
        command(*resume)
    assert command(*resume, "--model.teacher", moved) == 0
    assert last()["global_step"] == 2 and last()[RECORD]["recipe"]["init_from"] == str(start)
    assert f"teacher {teacher} -> {moved}" in said.text


@pytest.mark.parametrize("option", ["--model.teacher", "--model.init_from"])
def test_a_fresh_run_tells_of_a_missing_file_before_it_prepares_data(command, data, option, monkeypatch):
    monkeypatch.setattr(SuperResolutionData, "prepare_data", lambda _: pytest.fail("too late"))
    for words in ((), ("--ckpt_path", "last")):  # where there is no last one
        with pytest.raises(CheckpointError, match=rf"^{option}: no weights are called 'none\.safetensors'"):
            command("fit", "--trainer.max_steps", 1, option, "none.safetensors", *words)


def test_teachers_that_cannot_teach(teacher, tmp_path):
    with pytest.raises(CheckpointError, match=r"--model.teacher .* enlarges x2, the network in training x3"):
        Teacher(str(teacher), 3)
    with pytest.raises(CheckpointError, match="quantised"):
        Teacher("edsr_small_x2_int8", 2)
    with pytest.raises(AdderSRError, match=r"--model\.distillation must be at least 0, got -1"):
        SuperResolution("edsr_tiny_x2", teacher=str(teacher), distillation=-1)


def test_the_optimizer_can_be_chosen(command, last):
    words = ("--model.optimizer", "sgd", "--model.adaptive_eta", 0.2, "--model.betas", "[0.8, 0.9]")
    assert command("fit", "--trainer.max_steps", 2, *words) == 0
    content = last()
    assert content[RECORD]["recipe"]["optimizer"] == "SGD, adaptive local rate for adder filters"
    rest, adder = content["optimizer_states"][0]["param_groups"]
    assert rest["momentum"] == adder["momentum"] == 0.8 and adder["eta"] == 0.2 and rest["eta"] is None


def test_filters_start_with_the_deviation_asked_for(teacher):
    torch.manual_seed(0)
    plain = SuperResolution("edsr_small_x2").model
    torch.manual_seed(0)
    narrow = SuperResolution("edsr_small_x2", filter_std=0.2).model
    for (name, a), b in zip(plain.named_parameters(), narrow.parameters(), strict=True):
        assert_equal(b, a * 0.2 if name.endswith("adder.weight") else a)
    with pytest.raises(AdderSRError, match=r"--model\.filter_std must be above 0, got 0"):
        SuperResolution("edsr_tiny_x2", filter_std=0)
    shipped = checkpoint.load("edsr_small_x2").model.state_dict()
    fine_tuned = SuperResolution(init_from="edsr_small_x2", filter_std=0.2)
    fine_tuned.read_weights(training=True)
    assert_equal(fine_tuned.model.state_dict(), shipped)
