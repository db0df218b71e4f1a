"""Mixed precision, compilation and accumulated gradients: other ways to the same step."""

import pytest
import torch
from torch import nn

from addersr.data.pairs import Batch, PatchStream
from addersr.errors import AdderSRError
from addersr.layers import adder
from addersr.training.system import SuperResolution

OPTIONS = (
    "--model.overrides.blocks",
    1,
    "--trainer.max_steps",
    3,
    "--model.warmup_steps",
    0,
    "--trainer.val_check_interval",
    3,
)


@pytest.fixture
def losses(monkeypatch):
    """The losses of all steps of all runs."""
    found = []

    def record(module, outputs, *_):
        found.append(outputs["loss"].item())

    monkeypatch.setattr(SuperResolution, "on_train_batch_end", record, raising=False)
    return found


def test_in_mixed_precision_sums_and_gradients_are_float32(command, tmp_path, losses, monkeypatch):
    of_adders, of_convolutions, of_gradients = set(), set(), set()
    adder2d, convolution = adder.adder2d, nn.Conv2d.forward

    def recording_adder(x, weight, *rest):
        y = adder2d(x, weight, *rest)
        of_adders.update((x.dtype, weight.dtype, y.dtype))
        if y.requires_grad:
            y.register_hook(lambda gradient: of_adders.add(gradient.dtype))
        return y

    def recording_convolution(layer, x):
        y = convolution(layer, x)
        of_convolutions.add(y.dtype)
        return y

    def record_gradients(module, _):
        of_gradients.update(parameter.grad.dtype for parameter in module.model.parameters())

    with monkeypatch.context() as patch:
        patch.setattr(adder, "adder2d", recording_adder)
        patch.setattr(nn.Conv2d, "forward", recording_convolution)
        patch.setattr(SuperResolution, "on_before_optimizer_step", record_gradients, raising=False)
        assert command("fit", *OPTIONS, "--trainer.precision", "bf16-mixed") == 0
    assert of_adders == of_gradients == {torch.float32}
    assert of_convolutions == {torch.bfloat16}

    mixed = losses.copy()
    losses.clear()
    assert command("fit", *OPTIONS, "--run_dir", tmp_path / "exact") == 0
    assert mixed != losses and mixed == pytest.approx(losses, rel=0.02)


def test_a_compiled_network_takes_the_same_steps_and_is_looked_into(command, tmp_path, losses, monkeypatch):
    """By all of torch.compile but the code it would generate, for which a C++ compiler needs a minute."""

    def noise(stream, number):
        """Not of flat squares, in which enlarging gives the very picture, and L1's slope hangs on a rounding."""
        generator = torch.Generator().manual_seed(number)
        lr, hr = torch.rand(2, 3, 8, 8, generator=generator), torch.rand(2, 3, 16, 16, generator=generator)
        return Batch(lr.to(memory_format=torch.channels_last), hr.to(memory_format=torch.channels_last))

    monkeypatch.setattr(PatchStream, "batch", noise)
    assert command("fit", *OPTIONS, "--run_dir", tmp_path / "eager") == 0
    eager = losses.copy()
    losses.clear()

    def break_it(module, batch, batch_idx):
        if batch_idx == 2:
            with torch.no_grad():
                module.model.body[0].first.adder.weight[0, 0, 0, 0] = torch.nan

    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled(module, backend="aot_eager"))
    monkeypatch.setattr(SuperResolution, "on_train_batch_start", break_it, raising=False)
    with pytest.raises(AdderSRError, match=r"in step 3, the result of body\.0\.first\.adder"):
        command("fit", *OPTIONS, "--model.compile", "true")
    assert losses == pytest.approx(eager[:2], rel=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        ("--model.overrides.unit", "conv"),
        # BatchNorm would be over each part of the batch.
        ("--model.overrides.batch_norm", "false", "--model.adaptive_eta", 0.2),
    ],
)
def test_accumulated_gradients_are_those_of_the_whole_batch(command, tmp_path, last, monkeypatch, network):
    """And so is the local rate, which is of the gradient when it is complete."""
    words = (*OPTIONS, *network, "--trainer.precision", "64-true")
    assert command("fit", *words, "--trainer.accumulate_grad_batches", 2) == 0
    parts = last()

    original = PatchStream.batch

    def batch(stream, number):
        pair = original(stream, 2 * number), original(stream, 2 * number + 1)
        lr, hr = (torch.cat(side) for side in zip(*pair, strict=True))
        return Batch(lr, hr)

    monkeypatch.setattr(PatchStream, "batch", batch)
    (tmp_path / "run").rename(tmp_path / "parts")
    assert command("fit", *words) == 0
    whole = last()
    compare = torch.testing.assert_close
    compare(parts["current_model_state"], whole["current_model_state"], rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(parts["optimizer_states"], whole["optimizer_states"], strict=True):
        compare(ours["state"], theirs["state"], rtol=1e-7, atol=1e-12)
