"""How large results are, and by which network."""

import pytest

from addersr import checkpoint
from addersr.errors import CheckpointError
from addersr.inference import options
from addersr.inference.sizes import Wanted, default_model, passes


@pytest.mark.parametrize(
    ("wanted", "source", "target"),
    [
        (Wanted(factor=2), (10, 15), (20, 30)),
        (Wanted(factor=1.5), (3, 10), (5, 15)),
        (Wanted(factor=1.1), (10, 100), (11, 110)),  # 1.1 * 10 is a little more than 11
        (Wanted(factor=0.01), (10, 15), (1, 1)),
        (Wanted(size=(7, 9)), (10, 15), (7, 9)),
        (Wanted(longest=100), (10, 15), (67, 100)),
        (Wanted(longest=100), (15, 10), (100, 67)),
        (Wanted(longest=5), (1000, 1), (5, 1)),
    ],
    ids=str,
)
def test_sizes(wanted, source, target):
    assert wanted.of(*source) == target


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("factor", [0.3, 1, 1.01, 2, 2.5, 3, 4, 4.1, 8, 9])
def test_the_network_runs_until_the_result_is_large_enough_and_no_longer(scale, factor):
    source = (7, 10)
    target = Wanted(factor=factor).of(*source)
    count = passes(source, target, scale)
    assert all(side * scale**count >= wanted for side, wanted in zip(source, target, strict=True))
    assert count == 0 or any(
        side * scale ** (count - 1) < wanted for side, wanted in zip(source, target, strict=True)
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("source", [(24, 32), (1, 100), (9, 7)])
@pytest.mark.parametrize("target", [(1, 20_000), (300, 2), (50, 50), (5, 5), (1, 1)])
def test_whatever_the_shape_what_is_made_has_as_many_pixels_and_less_than_a_pass_more(scale, source, target):
    pixels, wanted = source[0] * source[1], target[0] * target[1]
    made = pixels * scale ** (2 * passes(source, target, scale))
    assert made >= wanted and (made == pixels or made < wanted * scale**2)


@pytest.mark.parametrize(
    ("there", "factor", "chosen"),
    [
        ((2, 3, 4), 3, 3),
        ((2, 3, 4), 2.5, 3),
        ((2, 3, 4), 4, 4),  # once rather than twice
        ((2, 3, 4), 8, 2),  # exactly, rather than 9 or 16
        ((2, 3, 4), 1, 2),
        ((2, 3, 4), None, 2),
        ((2,), 3, 2),
        ((3,), 2, 3),
    ],
)
def test_the_model_that_overshoots_least_is_the_default(monkeypatch, there, factor, chosen):
    def name(scale):
        if scale not in there:
            raise CheckpointError(f"no x{scale}")
        return f"x{scale}"

    monkeypatch.setattr(checkpoint, "default_name", name)
    assert default_model(factor) == f"x{chosen}"


def test_no_model_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    with pytest.raises(CheckpointError, match="no weights for x2 are shipped"):
        default_model(5)


@pytest.mark.parametrize("sign", ["x", "X", "\u00d7"])
def test_signs_between_width_and_height(sign):
    assert options.size(f"1280{sign}720") == (1280, 720)
