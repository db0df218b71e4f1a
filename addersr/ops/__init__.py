"""The adder operation: one public function, its oracle and its backends."""

from addersr.ops.adder2d import BACKENDS, adder2d, unavailable_reason

__all__ = ["BACKENDS", "adder2d", "unavailable_reason"]
