"""The parts networks are made of."""

from addersr.layers.adder import AdderConv2d, AdderUnit
from addersr.layers.power import BoxCoxHighPass, PowerActivation

__all__ = ["AdderConv2d", "AdderUnit", "BoxCoxHighPass", "PowerActivation"]
