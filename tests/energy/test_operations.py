"""Counting what a network computes: against torch's own counter, and by hand for the parts of a unit."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from addersr.energy.operations import CONVOLUTIONS, QUANTISING, UNITS, Operations, count
from addersr.errors import AdderSRError
from addersr.layers import AdderUnit
from addersr.models import build
from addersr.models.quantized import adder_units

NAMES = ["edsr_tiny_x2", "edsr_small_x3", "edsr_tiny_x4", "vdsr_tiny_x2", "vdsr_x3"]


def on_meta(name: str, **overrides: object) -> nn.Module:
    with torch.device("meta"):
        return build(name, **overrides).eval()


@pytest.mark.parametrize("name", NAMES)
def test_convolutions_agree_with_torch_s_counter(name):
    model = on_meta(name, unit="conv")
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(torch.empty(1, 3, 17, 24, device="meta"))
    layers = count(model, 17, 24)[CONVOLUTIONS]
    assert layers.mul == layers.add > 0
    assert layers.mul + layers.add == flops.get_total_flops()


@pytest.mark.parametrize("name", NAMES)
def test_an_adder_layer_has_two_additions_for_each_mac_of_its_twin(name):
    model = on_meta(name)
    units = set(adder_units(model))
    adder, twin = (count(network, 17, 24, units) for network in (model, on_meta(name, unit="conv")))
    assert adder[CONVOLUTIONS] == twin[CONVOLUTIONS]
    assert adder[UNITS] == Operations(add=2 * twin[UNITS].mul) and twin[UNITS].mul > 0


def test_the_parts_of_a_unit_by_hand():
    n = 8 * 5 * 6  # values of the result
    with torch.device("meta"):
        unit = nn.Sequential(AdderUnit(4, 8)).eval()
    counts = count(unit, 5, 6, {"0"}, channels=4)
    assert counts == {
        UNITS: Operations(add=2 * n * 4 * 9),
        "BatchNorm": Operations(n, n),
        "self-shortcut": Operations(n, n),
        "ReLU": Operations(0, n),
        # eps added, logarithm, times alpha, exponential, eps^alpha off, sign back on; and eps^alpha once
        "power activation": Operations(n * (10 + 1 + 7 + 1) + 18, n * (1 + 10 + 9 + 1) + 19),
        QUANTISING: Operations(n // 2, 6 * n // 2),
    }


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"batch_norm": False}, "BatchNorm"),
        ({"shortcut": "none"}, "self-shortcut"),
        ({"power": False}, "power activation"),
        ({"relu": False}, "ReLU"),
    ],
)
def test_a_part_that_is_switched_off_is_not_counted_and_nothing_else_changes(overrides, part):
    whole, without = (dict(count(on_meta("edsr_tiny_x2", **o), 7, 8)) for o in ({}, overrides))
    assert whole.pop(part).add > 0
    assert without == whole


class Sine(nn.Module):
    def forward(self, x):
        return x.sin()


def test_what_has_no_rule_is_an_error_and_no_hook_stays():
    model = nn.Sequential(Sine())
    with pytest.raises(AdderSRError, match=r"aten\.sin\.default"):
        count(model, 3, 3)
    assert not model._forward_hooks and not model[0]._forward_pre_hooks
