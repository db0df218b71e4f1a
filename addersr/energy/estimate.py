"""What a network's arithmetic takes in energy, at published prices of an operation, and what its twin's takes.

The main figures are of the layers' sums, as papers count them. What else is computed is counted too and told beside
them: in an adder network, where a sum is cheap, it is no small part.

A network computes more in its layers than the published ones have: the Box-Cox stage widens the first one, and VDSR is
for colour here. What that adds is the difference to the same network without it, and is told apart as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import nn

from addersr.energy.operations import (
    CONVOLUTIONS,
    QUANTISING,
    UNITS,
    Counts,
    Operations,
    count,
)
from addersr.models import VDSR
from addersr.models.presets import Network
from addersr.models.quantized import adder_units, is_quantized

__all__ = ["FLOAT32", "INT8", "Energy", "Estimate", "Precision", "Prices", "estimate", "measure"]

Precision: TypeAlias = Literal["float32", "int8"]

_BOX_COX, _COLOUR = "Box-Cox stage", "colour in place of luminance"


@dataclass(frozen=True)
class Prices:
    """Energy of one operation in picojoules.

    References:
        Horowitz, Computing's Energy Problem (and what we can do about it), ISSCC 2014: 45 nm, 0.9 V.
    """

    mul: float
    add: float

    def millijoules(self, operations: Operations) -> float:
        """Of so many operations."""
        return (self.mul * operations.mul + self.add * operations.add) * 1e-9


FLOAT32 = Prices(mul=3.7, add=0.9)
INT8 = Prices(mul=0.2, add=0.03)


@dataclass(frozen=True)
class Energy:
    """What one network computes for one picture."""

    counts: Counts

    @property
    def layers(self) -> Operations:
        """All layers' sums."""
        return self.counts.get(UNITS, Operations()) + self.counts[CONVOLUTIONS]

    def beside(self, precision: Precision) -> dict[str, Operations]:
        """The other parts; in int8 also what it takes to come to bytes."""
        left_out = {UNITS, CONVOLUTIONS} | ({QUANTISING} if precision == "float32" else set())
        return {part: operations for part, operations in self.counts.items() if part not in left_out}

    def layers_mj(self, precision: Precision) -> float:
        """Millijoules of the layers; in int8, of bytes within units, of float32 in all other convolutions.

        That is what a quantised network does (`addersr.models.quantized`).
        """
        prices = INT8 if precision == "int8" else FLOAT32
        return prices.millijoules(self.counts.get(UNITS, Operations())) + FLOAT32.millijoules(
            self.counts[CONVOLUTIONS]
        )

    def total_mj(self, precision: Precision) -> float:
        """Millijoules of all parts; what is beside the layers is in float32, whatever their precision."""
        beside = sum(map(FLOAT32.millijoules, self.beside(precision).values()))
        return self.layers_mj(precision) + beside


@dataclass(frozen=True)
class Estimate:
    """Energy of all arithmetic for one picture, in millijoules; memory takes more, and depends on the machine."""

    mj: float
    """Of the network, in the precision it is in."""
    twin_mj: float
    """Of its convolutional twin, in the same precision; of a convolutional network it is the same."""


def estimate(model: Network, height: int, width: int) -> Estimate:
    """The energy of upscaling a picture.

    Args:
        model: in float32 or quantised, on any device; it is neither run nor changed.
        height, width: of the picture as it is given to the network.
    """
    precision: Precision = "int8" if is_quantized(model) else "float32"
    kind, config, units = type(model), model.config, _unit_names(model)
    own, twin = (
        Energy(count(_skeleton(kind, {**config, "unit": unit}), height, width, units)).total_mj(precision)
        for unit in (config["unit"], "conv")
    )
    return Estimate(own, twin)


def measure(model: Network, height: int, width: int) -> tuple[Energy, Energy]:
    """What a network computes, and its convolutional twin.

    Their layers are those of the networks as published: what the Box-Cox stage and, in VDSR, colour add are parts of
    their own. All parts together are what `model` computes.

    Args:
        model: as `estimate` has it.
        height, width: of the network's input.
    """
    own, twin = (_parts(model, unit, height, width) for unit in (model.config["unit"], "conv"))
    return own, twin


def _parts(model: Network, unit: str, height: int, width: int) -> Energy:
    kind, config, units = type(model), {**model.config, "unit": unit}, _unit_names(model)
    network = _skeleton(kind, {**config, "box_cox": False})
    counts = dict(count(network, height, width, units))
    added = {}
    if config["box_cox"]:
        whole = count(_skeleton(kind, config), height, width, units)
        added[_BOX_COX] = _total(whole) - _total(counts)
    if isinstance(network, VDSR):
        published = count(_of_luminance(network), height, width, units, channels=1)
        added[_COLOUR] = _total(counts) - _total(published)
        counts = dict(published)
    return Energy(counts | added)


def _total(counts: Counts) -> Operations:
    return sum(counts.values(), Operations())


def _skeleton(kind: type[nn.Module], config: Mapping[str, Any]) -> Network:
    """A network without values."""
    with torch.device("meta"):
        return cast(Network, kind(**config).eval())


def _unit_names(model: Network) -> set[str]:
    """The layers that are adder layers in the adder network of this shape."""
    return set(adder_units(_skeleton(type(model), {**model.config, "unit": "adder"})))


def _of_luminance(network: VDSR) -> VDSR:
    """As VDSR was published, from Y to Y. Changes the network."""
    channels = network.head.out_channels
    with torch.device("meta"):
        network.mean = network.mean[:1]
        network.head = nn.Conv2d(1, channels, 3, padding=1)
        network.tail = nn.Conv2d(channels, 1, 3, padding=1)
    return network
