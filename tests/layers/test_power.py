"""The power activation and the Box-Cox high-pass stage: curves, limits, gradients."""

import pytest
import torch

from addersr.layers import BoxCoxHighPass, PowerActivation


@pytest.fixture(params=[0.3, 0.7, 1.0, 1.5])
def power(request: pytest.FixtureRequest) -> PowerActivation:
    activation = PowerActivation().double()
    torch.nn.init.constant_(activation.alpha, request.param)
    return activation


def test_power_follows_its_definition(power: PowerActivation) -> None:
    y = torch.linspace(-3, 3, 61, dtype=torch.double)
    alpha = power.alpha.item()
    expected = y.sign() * y.abs() ** alpha
    slope = alpha * 3.01 ** max(
        alpha - 1, 0
    )  # what moving |y| by eps does, at most, beyond the constant itself
    assert (power(y) - expected).abs().max() <= power.eps**alpha + power.eps ** min(alpha, 1) * slope


def test_power_is_odd_and_rises(power: PowerActivation) -> None:
    y = torch.linspace(-3, 3, 61, dtype=torch.double)
    assert torch.equal(power(-y), -power(y))
    assert (power(y).diff() > 0).all()
    assert power(torch.zeros(1, dtype=torch.double)).item() == 0


def test_power_at_one_is_the_identity() -> None:
    y = torch.randn(100)
    torch.testing.assert_close(PowerActivation()(y), y, rtol=1e-6, atol=1e-6)


def test_power_gradients(power: PowerActivation) -> None:
    y = torch.randn(50, dtype=torch.double, requires_grad=True)
    call = lambda y, alpha: torch.func.functional_call(power, {"alpha": alpha}, (y,))  # noqa: E731
    assert torch.autograd.gradcheck(call, (y, power.alpha))


def test_power_gradient_at_zero_is_finite(power: PowerActivation) -> None:
    y = torch.zeros(4, dtype=torch.double, requires_grad=True)
    power(y).sum().backward()
    assert y.grad is not None and y.grad.isfinite().all() and power.alpha.grad == 0


def high_pass(lam: float) -> BoxCoxHighPass:
    stage = BoxCoxHighPass().double()
    torch.nn.init.constant_(stage.lam, lam)
    return stage


LAMBDAS = [-1.0, -1e-3, -1e-9, 0.0, 1e-9, 9.9e-4, 1.1e-3, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("lam", LAMBDAS)
def test_constant_picture_gives_zero(lam: float) -> None:
    """At every level and lambda, to the border: what no adder layer can do (test_adder.py)."""
    for level in torch.linspace(0, 1, 11, dtype=torch.double):
        assert high_pass(lam)(level.expand(1, 3, 7, 6)).abs().max() < 1e-12


@pytest.mark.parametrize("lam", LAMBDAS)
def test_transform_is_box_cox(lam: float) -> None:
    stage = high_pass(lam)
    x = torch.linspace(0, 1, 101, dtype=torch.double)
    shifted = x + stage.eps
    expected = shifted.log() if abs(lam) < 1e-6 else (shifted**lam - 1) / lam
    torch.testing.assert_close(stage.transform(x), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("lam", LAMBDAS)
def test_high_pass_gradients(lam: float) -> None:
    x = torch.rand(1, 2, 4, 3, dtype=torch.double, requires_grad=True)
    stage = high_pass(lam)
    call = lambda x, lam: torch.func.functional_call(stage, {"lam": lam}, (x,))  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, stage.lam), atol=1e-4, rtol=1e-4)


def test_high_pass_answers_an_edge_and_reaches_its_radius() -> None:
    x = torch.full((1, 1, 9, 9), 0.5, dtype=torch.double)
    x[..., 4, 4] = 0.9
    touched = high_pass(0.5)(x)[0, 0].abs() > 1e-12
    assert touched[2:7, 2:7].all() and touched.sum() == 25


def test_high_pass_of_a_single_pixel() -> None:
    assert high_pass(0.5)(torch.rand(1, 3, 1, 1, dtype=torch.double)).abs().max() < 1e-12
