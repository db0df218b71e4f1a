"""What a step of training does."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from addersr.evaluation.metrics import psnr
from addersr.images.color import rgb_to_y
from addersr.images.resize import imresize
from addersr.training.export import convert
from addersr.training.system import RECORD, SuperResolution

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)


def test_training_lowers_the_loss_and_beats_bicubic_in_the_end(command, data, last):
    options = ("--model.warmup_steps", 5, "--data.batch_size", 8, "--trainer.val_check_interval", 150)
    losses = []

    def record(module, outputs, *_):
        losses.append(outputs["loss"].item())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperResolution, "on_train_batch_end", record, raising=False)
        assert command("fit", "--trainer.max_steps", 150, *options) == 0
    assert np.mean(losses[-30:]) < 0.9 * np.mean(losses[:30])
    best = last("best")["callbacks"]
    score = next(
        state["best_model_score"].item() for state in best.values() if state.get("monitor") == "val/psnr"
    )
    bicubic = []
    for path in sorted((data / "val").iterdir()):
        hr = np.asarray(Image.open(path))
        up = imresize(imresize(hr, 0.5), 2)
        bicubic.append(psnr(*(rgb_to_y(picture)[2:-2, 2:-2] for picture in (up, hr))))
    assert score > np.mean(bicubic)


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


def test_averaged_weights_lag_behind_and_are_those_of_best(command, last):
    assert command("fit", "--trainer.max_steps", 4) == 0
    content = last()
    averaged, current = content["state_dict"], content["current_model_state"]
    assert not torch.equal(averaged["model.head.weight"], current["model.head.weight"])
    name = "model.body.0.first.norm.running_mean"  # BatchNorm's statistics are averaged too
    assert not torch.equal(averaged[name], current[name])
    counter = "model.body.0.first.norm.num_batches_tracked"
    assert averaged[counter] == current[counter] == 4


def test_averaging_can_be_switched_off(command, last):
    assert command("fit", "--trainer.max_steps", 3, "--ema.decay", 0) == 0
    content = last()
    assert_equal(content["state_dict"], content["current_model_state"])
    assert convert(content)[1]["averaged"] is False
    del content[RECORD]["recipe"]["ema_decay"]  # as in checkpoints of older versions
    assert convert(content)[1]["averaged"] is True


def test_the_average_is_the_exponential_one(command, last):
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
        decay = min(0.3, (1 + step) / (50 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(last()["state_dict"]["model.head.weight"], expected)
