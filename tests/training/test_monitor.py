"""What TensorBoard and the progress bar tell of a run, and that telling it changes nothing."""

import copy
from functools import partial

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import l1_loss

from addersr.data.pairs import PatchStream
from addersr.models import presets
from addersr.training import monitor
from addersr.training.command import CommandLine
from addersr.training.monitor import Clock, Progress, Scalars, layers, learned
from addersr.training.pictures import ValidationPictures
from addersr.training.stopping import Trainer
from addersr.training.system import SuperResolution

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)

UNITS = ["body.0.first", "body.0.second", "body.1.first", "body.1.second", "body.2", "upsampler.0"]


def scalars_of(run):
    """{name: {step: value}}"""
    events = EventAccumulator(str(run))
    events.Reload()
    return {
        name: {event.step: event.value for event in events.Scalars(name)} for name in events.Tags()["scalars"]
    }


def test_every_parameter_is_in_one_layer_and_the_twins_layers_have_the_same_names():
    network = presets.build("edsr_tiny_x2")
    found = layers(network)
    assert list(found) == ["box_cox", "head", *UNITS, "tail"]
    assert [id(p) for group in found.values() for p in group] == [id(p) for p in network.parameters()]
    unit = dict(network.named_modules())["body.0.first"]
    assert {id(p) for p in found["body.0.first"]} == {id(p) for p in unit.parameters()}
    assert list(layers(presets.build("edsr_tiny_x2", unit="conv"))) == list(found)


def test_what_is_not_learned_is_not_shown():
    names = [f"{kind}/{unit}" for unit in UNITS for kind in ("alpha", "gain")]
    assert list(learned(presets.build("edsr_tiny_x2"))) == ["lambda/box_cox", *names]
    assert not learned(presets.build("edsr_tiny_x2", shortcut=False, power=False, box_cox=False))
    assert list(learned(presets.build("edsr_tiny_x2", shortcut="fixed", power=False))) == ["lambda/box_cox"]


def test_scalars_are_those_of_the_step(command, tmp_path, monkeypatch):
    """Exponents, gains and gradients against the same step made by hand, before clipping and normalising."""
    steps = []

    def record(module, batch, batch_idx):
        steps.append((copy.deepcopy(module.model.state_dict()), batch))

    monkeypatch.setattr(SuperResolution, "on_train_batch_start", record, raising=False)
    words = ("--trainer.gradient_clip_val", 1e-4, "--model.adaptive_eta", 0.2, "--model.warmup_steps", 3)
    assert command("fit", "--trainer.max_steps", 5, "--trainer.log_every_n_steps", 2, *words) == 0
    scalars = scalars_of(tmp_path / "run")
    for step in (1, 3):
        state, batch = steps[step]
        network = presets.build("edsr_tiny_x2")
        network.load_state_dict(state)
        loss = l1_loss(network(batch.lr), batch.hr)
        loss.backward()
        by_hand = {
            layer: sum((p.grad.double() ** 2).sum() for p in group).sqrt().item()
            for layer, group in layers(network).items()
        }
        by_hand["total"] = sum(norm**2 for norm in by_hand.values()) ** 0.5
        logged = {layer: scalars[f"train/grad_norm/{layer}"][step] for layer in by_hand}
        assert logged == pytest.approx(by_hand, rel=1e-4)
        assert scalars["train/loss"][step] == pytest.approx(loss.item(), rel=1e-5)
        for unit in UNITS:
            assert scalars[f"learned/alpha/{unit}"][step] == state[f"{unit}.power.alpha"].item()
            assert scalars[f"learned/gain/{unit}"][step] == state[f"{unit}.gain"].item()
        assert scalars["learned/lambda/box_cox"][step] == state["box_cox.lam"].item()
    assert scalars["learned/gain/body.2"][3] != 1  # it has moved
    # of the warm-up's quarters the second is logged, then the cosine's first step
    assert scalars["train/learning_rate/rest"] == pytest.approx({1: 2e-3 * 2 / 4, 3: 2e-3}, rel=1e-6)
    assert scalars["train/learning_rate/adder"] == pytest.approx({1: 0.32 * 2 / 4, 3: 0.32}, rel=1e-6)


def test_norms_are_computed_at_logging_steps_alone(command, tmp_path, monkeypatch):
    calls = []
    norm = monitor.get_total_norm
    monkeypatch.setattr(monitor, "get_total_norm", lambda tensors: calls.append(tensors) or norm(tensors))
    assert command("fit", "--trainer.max_steps", 5, "--trainer.log_every_n_steps", 2) == 0
    assert len(calls) == 2 * (3 + len(UNITS) + 1)
    calls.clear()
    words = ("--trainer.logger", "false", "--run_dir", tmp_path / "unlogged")
    assert command("fit", "--trainer.max_steps", 2, "--trainer.log_every_n_steps", 1, *words) == 0
    assert not calls


def test_layers_are_drawn_in_one_chart(command, tmp_path):
    assert command("fit", "--trainer.max_steps", 2, "--trainer.log_every_n_steps", 1) == 0
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    (layout,) = events.Tensors("custom_scalars__config__")
    drawn = layout.tensor_proto.string_val[0]
    names = events.Tags()["scalars"]
    for chart, count in {"learned/alpha/": 6, "learned/gain/": 6, "train/grad_norm/": 10, "time/": 2}.items():
        assert chart.encode() in drawn
        assert sum(name.startswith(chart) for name in names) == count


@pytest.mark.parametrize(("accumulated", "load", "compute"), [(1, 3, 2), (2, 6, 4)])
def test_the_time_of_a_step_is_split(command, tmp_path, capsys, monkeypatch, accumulated, load, compute):
    """On a clock that only loading, steps, validations and checkpoints move on."""
    now = 0

    def taking(seconds, function):
        def slow(*arguments, **options):
            nonlocal now
            now += seconds
            return function(*arguments, **options)

        return slow

    monkeypatch.setattr(monitor, "perf_counter", lambda: float(now))
    monkeypatch.setattr(PatchStream, "batch", taking(3, PatchStream.batch))
    monkeypatch.setattr(SuperResolution, "training_step", taking(2, SuperResolution.training_step))
    monkeypatch.setattr(SuperResolution, "predict_step", taking(100, SuperResolution.predict_step))
    monkeypatch.setattr(Trainer, "save_checkpoint", taking(1000, Trainer.save_checkpoint))
    words = ("--trainer.accumulate_grad_batches", accumulated, "--last.every_n_train_steps", 3)
    words += ("--trainer.log_every_n_steps", 2, "--trainer.val_check_interval", 5)  # also within a step
    assert command("fit", "--trainer.max_steps", 8, "--progress.refresh_rate", 1, *words) == 0
    assert now > 3000
    scalars = scalars_of(tmp_path / "run")
    assert scalars["time/load"] == dict.fromkeys((1, 3, 5, 7), load)
    assert scalars["time/compute"] == dict.fromkeys((1, 3, 5, 7), compute)
    assert f"s/step={load + compute}, loading=60%" in capsys.readouterr().out


def test_a_gpus_time_is_told_by_events_in_its_queue(monkeypatch):
    waited = []

    class Event:
        """As torch.cuda.Event, in milliseconds."""

        milliseconds = iter((100.0, 250.0))

        def __init__(self, enable_timing):
            assert enable_timing
            self.at = None

        def record(self):
            self.at = next(self.milliseconds)

        def synchronize(self):
            waited.append(self)

        def elapsed_time(self, end):
            assert end in waited
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    start, end = (monitor._mark(torch.device("cuda", 0)) for _ in range(2))
    assert not waited  # the device is not waited for in a step
    assert monitor._seconds(start, end) == pytest.approx(0.15)


def test_the_bar_shows_loss_and_scores(command, tmp_path, capsys):
    assert command("fit", "--trainer.max_steps", 4, "--trainer.log_every_n_steps", 2) == 0
    scalars = scalars_of(tmp_path / "run")
    *_, line = (line for line in capsys.readouterr().out.replace("\r", "\n").split("\n") if "loss=" in line)
    assert "100%" in line and " 4/4 [" in line
    assert f"loss={scalars['train/loss'][3]:.4f}, PSNR={scalars['val/psnr'][3]:.2f}, s/step=" in line
    assert f"bicubic={scalars['val/psnr_bicubic'][3]:.2f}" in line


@pytest.mark.parametrize(("load", "shown"), [(0.004, None), (0.006, "6%")])
def test_loading_that_costs_little_is_not_mentioned(monkeypatch, load, shown):
    times = {"time/load": load, "time/compute": 0.1 - load}
    monkeypatch.setattr(Trainer, "progress_bar_metrics", times)
    metrics = Progress().get_metrics(Trainer(logger=False, accelerator="cpu"), None)
    assert metrics.pop("loading", None) == shown
    assert metrics == {"s/step": "0.1"}


def test_watching_changes_nothing(command, tmp_path, monkeypatch, last):
    words = ("--trainer.max_steps", 5, "--trainer.log_every_n_steps", 1)
    assert command("fit", *words) == 0
    watched = last()
    (tmp_path / "run").rename(tmp_path / "watched")

    original = CommandLine.instantiate_trainer
    removed = []

    def bare(line, **options):
        trainer = original(line, **options)
        watching = (Clock, Progress, Scalars, ValidationPictures)
        removed.extend(c for c in trainer.callbacks if isinstance(c, watching))
        trainer.callbacks = [c for c in trainer.callbacks if c not in removed]
        return trainer

    monkeypatch.setattr(CommandLine, "instantiate_trainer", bare)
    assert command("fit", *words) == 0
    assert len(removed) == 4
    unwatched = last()
    for part in ("state_dict", "current_model_state"):
        assert_equal(watched[part], unwatched[part])
    for a, b in zip(*(c["optimizer_states"][0]["state"].values() for c in (watched, unwatched)), strict=True):
        assert_equal(a, b)
