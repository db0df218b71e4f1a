"""light.py: the published light networks that are timed are those that were published."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

# The table counts FSRCNN's last layer, 81 x 56 a pixel, on its result.
FSRCNN = 6.0 - 81 * 56 * (1280 * 720 - 640 * 360) / 1e9


@pytest.mark.parametrize(
    ("name", "gmac"), [("SRCNN", 52.7), ("FSRCNN", FSRCNN), ("CARN", 222.8), ("CARN-M", 91.2)]
)
def test_operations_are_those_of_the_table(benchmarks, name, gmac):
    """CARN, table 1, for 1280x720."""
    with torch.device("meta"):
        network = benchmarks.light.networks()[name]
        picture = torch.empty(1, 3, 360, 640)
    with FlopCounterMode(display=False) as counter:
        result = network(picture)
    assert result.shape == (1, 3 if "CARN" in name else 1, 720, 1280)
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, abs=0.1)
