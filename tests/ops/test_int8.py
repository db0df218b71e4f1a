"""`sad2d` against sums in integers, bit for bit: native kernels and eager torch."""

from collections.abc import Callable

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from addersr.ops import cpu, int8
from addersr.ops.int8 import MOST_VALUES, sad2d

LAYOUTS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.contiguous(),
    lambda x: x.contiguous(memory_format=torch.channels_last),
    lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
    lambda x: x.repeat_interleave(2, dim=1)[:, 1::2],
]

BLOCK_EDGES = [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 319, 320, 321, 322, 700]
"""Widths beside those of cells, blocks and bands of the kernels."""


@pytest.fixture(params=["native", "reference"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which implementation `sad2d` takes; `reference` is eager torch."""
    if request.param == "reference":
        monkeypatch.setattr(int8.cpu, "unavailable_reason", lambda x=None: "told so")
    elif reason := cpu.unavailable_reason():
        pytest.skip(reason)


def noise(seed: int, *shape: int) -> Tensor:
    values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    values.flat[:: max(1, values.size // 7)] = 255  # so that the ends come up in small tensors too
    values.flat[3 :: max(1, values.size // 5)] = 0
    return torch.from_numpy(values)


def assert_equal_to_oracle(
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    pad: int = 0,
) -> None:
    sums = sad2d(x, weight, stride, padding, pad)
    assert sums.dtype == torch.int32
    expected = oracle.sums_of_differences(x.numpy(), weight.numpy(), stride, padding, pad)
    np.testing.assert_array_equal(sums.numpy(), expected)


@pytest.mark.parametrize("seed", range(48))
def test_random_cases(seed: int) -> None:
    """Every kernel size to 9, strides to 3, paddings beyond the filter, filters and channels of all remainders."""
    rng = np.random.default_rng(seed)
    kernel = [int(k) for k in rng.integers(1, 10, 2)]
    padding = (int(rng.integers(0, kernel[0] + 2)), int(rng.integers(0, kernel[1] + 2)))
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    h, w = (int(rng.integers(max(1, k - 2 * p), 22)) for k, p in zip(kernel, padding, strict=True))
    n, c, o = int(rng.integers(1, 3)), int(rng.integers(1, 13)), int(rng.integers(1, 19))
    layout, other = LAYOUTS[seed % len(LAYOUTS)], LAYOUTS[seed // 2 % len(LAYOUTS)]
    x, weight = layout(noise(seed, n, c, h, w)), other(noise(seed + 1000, o, c, *kernel))
    assert_equal_to_oracle(x, weight, stride, padding, int(rng.integers(0, 256)))


@pytest.mark.parametrize("width", BLOCK_EDGES)
@pytest.mark.parametrize(("stride", "kernel", "rows"), [(1, 3, 17), (2, 5, 33)])
def test_widths_at_block_edges(width: int, stride: int, kernel: int, rows: int) -> None:
    """The stride is across; one row more than one and two of the tallest bands."""
    x, weight = noise(width, 1, 2, rows, width), noise(0, 5, 2, 3, kernel)
    assert_equal_to_oracle(x, weight, (1, stride), (1, kernel // 2), 131)


@pytest.mark.parametrize("filters", [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 33, 64])
def test_filters_at_block_edges(filters: int) -> None:
    assert_equal_to_oracle(noise(filters, 1, 3, 6, 11), noise(1, filters, 3, 3, 3), padding=(1, 1), pad=7)


@pytest.mark.parametrize(("x_value", "weight_value"), [(255, 0), (0, 255)])
@pytest.mark.parametrize("channels", [21, 22, 43, 700])
def test_largest_differences(x_value: int, weight_value: int, channels: int) -> None:
    """3x3 over 22 channels is more than the 64 steps after which 16-bit sums have to be emptied."""
    x = torch.full((1, channels, 5, 9), x_value, dtype=torch.uint8)
    weight = torch.full((5, channels, 3, 3), weight_value, dtype=torch.uint8)
    assert (sad2d(x, weight) == 255 * 9 * channels).all()
    assert_equal_to_oracle(x, weight, padding=(1, 1), pad=weight_value)


def test_sums_beyond_24_bits() -> None:
    """Which float32 does not hold."""
    channels = 2**17
    x = torch.full((1, channels, 1, 1), 255, dtype=torch.uint8)
    weight = torch.zeros(2, channels, 1, 1, dtype=torch.uint8)
    weight[1, 0] = 1
    assert sad2d(x, weight).flatten().tolist() == [255 * channels, 255 * channels - 1]


def test_padding_counts_as_its_value() -> None:
    x, weight = torch.full((1, 1, 1, 1), 9, dtype=torch.uint8), torch.full((1, 1, 3, 3), 5, dtype=torch.uint8)
    assert sad2d(x, weight, 1, 1, 250).item() == 4 + 8 * 245


def test_empty_batch() -> None:
    x, weight = torch.zeros(0, 3, 8, 9, dtype=torch.uint8), noise(0, 5, 3, 3, 3)
    sums = sad2d(x, weight, 2, 1)
    assert sums.shape == (0, 5, 4, 5) and sums.dtype == torch.int32


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [2, 17, 33, 41])
def test_result_does_not_depend_on_threads(threads: int, rows: int) -> None:
    """How the rows are cut into bands does."""
    x, weight = noise(0, 1, 4, rows, 333), noise(1, 6, 4, 3, 3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_equal_to_oracle(x, weight, padding=(1, 1), pad=128)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("pad_value", [-1, 256])
def test_pad_values_that_are_no_byte(pad_value: int) -> None:
    with pytest.raises(ValueError, match=f"pad_value must be 0 to 255, got {pad_value}"):
        sad2d(noise(0, 1, 1, 4, 4), noise(1, 1, 1, 3, 3), 1, 1, pad_value)


@pytest.mark.parametrize(
    ("x_type", "weight_type"),
    [(torch.float32, torch.uint8), (torch.uint8, torch.int8), (torch.int32, torch.int32)],
)
def test_types_that_do_not_fit(x_type: torch.dtype, weight_type: torch.dtype) -> None:
    x, weight = torch.zeros(1, 2, 4, 4, dtype=x_type), torch.zeros(3, 2, 3, 3, dtype=weight_type)
    with pytest.raises(ValueError, match=rf"must be torch.uint8, got {x_type} and {weight_type}"):
        sad2d(x, weight)


@pytest.mark.parametrize(
    ("x", "weight", "stride", "padding", "message"),
    [
        ((3, 8, 8), (4, 3, 3, 3), 1, 0, r"x must be \(N, C, H, W\), got \(3, 8, 8\)"),
        ((1, 2, 8, 8), (4, 3, 3, 3), 1, 0, "x has 2 channels.*takes 3"),
        ((1, 3, 2, 8), (4, 3, 3, 3), 1, 0, r"does not fit into \(2, 8\)"),
        ((1, 3, 8, 8), (4, 3, 3, 3), 0, 0, "stride must be an integer >= 1 .*got 0"),
        ((1, 3, 8, 8), (4, 3, 3, 3), 1, (1, -1), r"padding must be .*got \(1, -1\)"),
    ],
)
def test_shapes_that_do_not_fit(
    x: tuple[int, ...], weight: tuple[int, ...], stride: int, padding: int | tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sad2d(torch.zeros(x, dtype=torch.uint8), torch.zeros(weight, dtype=torch.uint8), stride, padding)


def test_filters_that_could_overflow() -> None:
    """Expanded: they take no memory, and a copy of them would be noticed in the time it takes."""
    byte = torch.zeros(1, dtype=torch.uint8)
    x, weight = (byte.expand(n, MOST_VALUES // 4 + 1, 1, 1) for n in (1, 10**6))
    with pytest.raises(ValueError, match=f"may have {MOST_VALUES} values at most, got {MOST_VALUES + 4}"):
        sad2d(x, weight)


def test_devices_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="one device"):
        sad2d(noise(0, 1, 1, 4, 4), noise(1, 1, 1, 3, 3).to("meta"))
