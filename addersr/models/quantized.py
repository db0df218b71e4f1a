"""Networks whose adder units are quantised."""

from typing import Any

from torch import nn

from addersr.layers import AdderUnit
from addersr.layers.quantized import QuantizedUnit
from addersr.models.edsr import EDSR


def quantized_skeleton(config: dict[str, Any]) -> EDSR:
    """An `EDSR` of this configuration whose adder units are empty quantised ones, for a state dict to fill."""
    model = EDSR(**config)
    for name, unit in adder_units(model).items():
        o, c, k, _ = unit.adder.weight.shape
        model.set_submodule(name, QuantizedUnit(c, o, k))
    return model


def adder_units(model: nn.Module) -> dict[str, AdderUnit]:
    """Name -> unit, in the order of the network."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdderUnit)}


def is_quantized(model: nn.Module) -> bool:
    """Whether it has quantised units."""
    return any(isinstance(module, QuantizedUnit) for module in model.modules())


def parameter_count(model: nn.Module) -> int:
    """Learned numbers in a network; in a quantised unit: filters, scale and bias of each channel, gain and exponent."""
    units = [module for module in model.modules() if isinstance(module, QuantizedUnit)]
    quantized = sum(unit.weight.numel() + unit.scale.numel() + unit.bias.numel() + 2 for unit in units)
    return quantized + sum(parameter.numel() for parameter in model.parameters())
