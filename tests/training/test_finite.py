"""A run that diverges stops before it does harm, and names the layer."""

import contextlib
import io
import math

import pytest
import torch

from addersr.cli import main as addersr
from addersr.errors import AdderSRError
from addersr.training.system import SuperResolution

OPTIONS = ("--trainer.max_steps", 5, "--last.every_n_train_steps", 2, "--trainer.val_check_interval", 100)


def broken_from(step, break_it):
    """Breaks the network before the batch of that index."""

    def on_train_batch_start(module, batch, batch_idx):
        if batch_idx == step:
            break_it(module.model)

    return "on_train_batch_start", on_train_batch_start


def spoil(name, value=math.nan):
    def break_it(model):
        with torch.no_grad():
            parameter = model.get_parameter(name)
            parameter[(0,) * parameter.dim()] = value

    return break_it


def spoil_gradient(name):
    return lambda model: model.get_parameter(name).register_hook(lambda gradient: gradient * math.inf)


@pytest.mark.parametrize(
    ("break_it", "where"),
    [
        (spoil("body.1.second.adder.weight"), r"the result of body\.1\.second\.adder \(AdderConv2d\)"),
        (spoil("head.weight", math.inf), r"the result of head \(Conv2d\)"),
        (spoil("body.0.first.power.alpha"), r"the result of body\.0\.first \(AdderUnit\)"),
        (spoil("tail.bias", -math.inf), r"the result of tail \(Conv2d\)"),
        (spoil_gradient("body.0.second.norm.weight"), r"the gradient of body\.0\.second\.norm\.weight"),
    ],
)
def test_the_run_stops_with_the_layers_name_and_the_last_checkpoint(command, last, break_it, where):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, *broken_from(3, break_it), raising=False)
        with pytest.raises(AdderSRError, match=f"in step 4, {where} is not finite.*last.ckpt") as caught:
            command("fit", *OPTIONS)
    assert "\n" not in str(caught.value)
    content = last()
    assert content["global_step"] == 2
    assert all(tensor.isfinite().all() for tensor in content["current_model_state"].values())


def test_it_is_found_in_the_micro_batch_in_which_it_is(command):
    """The first of two, though the second is sound."""
    with pytest.MonkeyPatch.context() as patch:

        def training_step(module, batch, batch_idx):
            if batch_idx == 2:
                batch.lr.fill_(math.inf)
            return (module.model(batch.lr) - batch.hr).abs().mean()

        patch.setattr(SuperResolution, "training_step", training_step)
        with pytest.raises(AdderSRError, match=r"in step 2, the result of box_cox \(BoxCoxHighPass\)"):
            command("fit", *OPTIONS, "--trainer.accumulate_grad_batches", 2)


def test_a_loss_that_is_not_finite_by_itself_is_named(command):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            SuperResolution,
            "training_step",
            lambda self, batch, _: self.model(batch.lr).mean() * 0 + math.inf,
        )
        with pytest.raises(AdderSRError, match="in step 1, the loss itself is not finite"):
            command("fit", *OPTIONS)


def test_the_command_ends_with_an_error_in_a_line_of_its_own(command_line, tmp_path):
    """On a terminal, which shows the progress bar too."""
    terminal = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(terminal),
        contextlib.redirect_stderr(terminal),
    ):
        patch.setattr(SuperResolution, *broken_from(2, spoil("tail.bias")), raising=False)
        options = (*OPTIONS, "--progress.refresh_rate", 1)
        assert addersr(command_line("fit", tmp_path / "run", *options)) == 1
    (line,) = (line for line in terminal.getvalue().split("\n") if "addersr: error" in line)
    assert "2/5" in terminal.getvalue() and line.startswith(
        "addersr: error: training diverged: in step 3, the result of tail (Conv2d) is not finite"
    )
