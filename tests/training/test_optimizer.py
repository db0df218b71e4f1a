import math

import pytest
import torch
from torch import nn

from addersr.layers import AdderConv2d
from addersr.training.optimizer import AdderAdam, AdderSGD, adder_filters, parameter_groups, warmup_cosine

SHAPE = (3, 5, 3, 3)


both = pytest.mark.parametrize("kind", [AdderAdam, AdderSGD])


def steps(gradients, kind=AdderAdam, **kwargs):
    """The parameter after steps along given gradients, from 0."""
    parameter = nn.Parameter(torch.zeros(SHAPE))
    optimizer = kind([{"params": [parameter], **kwargs}], lr=0.1)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.fixture
def gradients():
    return [torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


def test_the_first_step_is_the_papers_equation(gradients):
    g = gradients[0]
    expected = -0.1 * 0.2 * math.sqrt(g.numel()) / g.norm() * g
    torch.testing.assert_close(steps([g], eta=0.2), expected)


def test_each_step_is_the_momentum_of_normalised_gradients(gradients):
    momentum, expected = torch.zeros(SHAPE, dtype=torch.float64), torch.zeros(SHAPE, dtype=torch.float64)
    for t, g in enumerate(gradients, 1):
        g = g.double()
        momentum = 0.9 * momentum + 0.1 * 0.2 * math.sqrt(g.numel()) / g.norm() * g
        expected -= 0.1 * momentum / (1 - 0.9**t)
    torch.testing.assert_close(steps(gradients, eta=0.2).double(), expected, rtol=1e-5, atol=1e-7)


@both
@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e4])
def test_steps_do_not_depend_on_the_scale_of_the_loss(gradients, factor, kind):
    scaled = [g * factor for g in gradients]
    torch.testing.assert_close(
        steps(scaled, kind, eta=0.2), steps(gradients, kind, eta=0.2), rtol=1e-4, atol=1e-6
    )


def test_steps_are_proportional_to_eta_and_have_its_size(gradients):
    first = steps(gradients[:1], eta=0.2)
    assert first.square().mean().sqrt().item() == pytest.approx(0.1 * 0.2, rel=1e-5)
    torch.testing.assert_close(steps(gradients, eta=0.4), 2 * steps(gradients, eta=0.2))


@both
def test_a_gradient_of_zero_moves_nothing(kind):
    """Such is the first one of a network whose last layer starts from zero."""
    parameter = nn.Parameter(torch.zeros(64, 64, 3, 3))
    parameter.grad = torch.zeros_like(parameter)
    kind([{"params": [parameter], "eta": 0.2}]).step()
    assert torch.equal(parameter, torch.zeros_like(parameter))


def test_accumulated_micro_batches_step_like_the_whole_batch(gradients):
    """The reason why the normalisation is in the step: in backward it would see each part alone."""

    def step(*losses):
        parameter = nn.Parameter(torch.zeros(SHAPE))
        optimizer = AdderAdam([{"params": [parameter], "eta": 0.2}], lr=0.1)
        for loss in losses:
            loss(parameter).backward()
        optimizer.step()
        return parameter.detach()

    def first(parameter):
        return (gradients[0] * parameter).sum()

    def second(parameter):
        return (gradients[1] * parameter).sum()

    torch.testing.assert_close(
        step(first, second), step(lambda parameter: first(parameter) + second(parameter))
    )
    apart = steps(gradients[:1], eta=0.2) + steps(gradients[1:2], eta=0.2)
    assert not torch.allclose(apart, steps([gradients[0] + gradients[1]], eta=0.2))


def test_without_eta_it_is_adam(gradients):
    parameter = nn.Parameter(torch.zeros(SHAPE))
    adam = torch.optim.Adam([parameter], lr=0.1, betas=(0.9, 0.99))
    for gradient in gradients:
        parameter.grad = gradient
        adam.step()
    torch.testing.assert_close(steps(gradients), parameter.detach())


def test_sgd_takes_normalised_gradients_as_the_authors_code(gradients):
    """As `p.grad = alpha * g` in their backward pass and torch's SGD after it."""
    for eta in (None, 0.2):
        parameter = nn.Parameter(torch.zeros(SHAPE))
        sgd = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
        for g in gradients:
            parameter.grad = g if eta is None else eta * math.sqrt(g.numel()) / g.norm() * g
            sgd.step()
        torch.testing.assert_close(steps(gradients, AdderSGD, eta=eta), parameter.detach())


@both
def test_groups_do_not_disturb_each_other_and_gradients_survive_the_step(gradients, kind):
    local, plain = nn.Parameter(torch.zeros(SHAPE)), nn.Parameter(torch.zeros(SHAPE))
    optimizer = kind([{"params": [local], "eta": 0.2}, {"params": [plain]}], lr=0.1)
    for gradient in gradients:
        local.grad, plain.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        assert torch.equal(local.grad, gradient) and torch.equal(plain.grad, gradient)
    assert torch.equal(local, steps(gradients, kind, eta=0.2)) and torch.equal(plain, steps(gradients, kind))


@both
def test_a_gradient_scaler_skips_an_overflow_and_its_factor_does_not_show(gradients, kind):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=10**6)
    parameter = nn.Parameter(torch.zeros(SHAPE))
    optimizer = kind([{"params": [parameter], "eta": 0.2}], lr=0.1)
    scaler.scale(torch.zeros(()))  # which sets its factor up
    overflow = gradients[0].clone()
    overflow[0, 0, 0, 0] = torch.inf
    for gradient in (gradients[0], overflow, gradients[1]):
        parameter.grad = gradient * scaler.get_scale()
        scaler.unscale_(optimizer)  # as before clipping
        if gradient is not overflow:
            torch.testing.assert_close(parameter.grad, gradient)
        scaler.step(optimizer)
        scaler.update()
    torch.testing.assert_close(parameter.detach(), steps(gradients[:2], kind, eta=0.2))


@both
def test_the_closure_is_called_once_with_gradients(gradients, kind):
    parameter = nn.Parameter(torch.ones(SHAPE))
    optimizer = kind([{"params": [parameter], "eta": 0.2}], lr=0.1)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure) == 135
    assert calls == [True] and (parameter < 1).all()


@both
def test_a_restored_optimizer_goes_on_as_the_first(gradients, kind):
    results = []
    for restored in (False, True):
        parameter = nn.Parameter(torch.zeros(SHAPE))
        optimizer = kind([{"params": [parameter], "eta": 0.2}], lr=0.1)
        for index, gradient in enumerate(gradients):
            if restored and index == 2:
                state = optimizer.state_dict()
                optimizer = kind([{"params": [parameter], "eta": 0.2}], lr=0.1)
                optimizer.load_state_dict(state)
            parameter.grad = gradient
            optimizer.step()
        results.append(parameter.detach())
    assert torch.equal(*results)


def test_adder_filters_alone_take_the_higher_rate():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), AdderConv2d(4, 4, 3), nn.BatchNorm2d(4), AdderConv2d(4, 2, 3))
    rest, adder = parameter_groups(model, lr=1e-3, adder_rate=20, eta=0.2)
    assert [id(p) for p in adder["params"]] == [id(model[1].weight), id(model[3].weight)]
    assert [id(p) for p in adder["params"]] == [id(p) for p in adder_filters(model)]
    assert adder["lr"] == pytest.approx(0.02) and rest["lr"] == 1e-3
    assert adder["eta"] == 0.2 and rest["eta"] is None
    assert len(rest["params"]) + 2 == len(list(model.parameters()))


def test_a_convolutional_network_has_one_group():
    assert len(parameter_groups(nn.Conv2d(3, 3, 3), lr=1e-3, adder_rate=20, eta=None)) == 1


def test_the_rate_rises_then_falls_in_a_half_cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, warmup=10, total=110, floor=0.1)
    rates = []
    for _ in range(120):
        rates.append(schedule.get_last_lr()[0] / 2)
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1 / 11) and rates[9] == pytest.approx(10 / 11)
    assert max(rates) == rates[10] == 1
    assert rates[60] == pytest.approx(0.55)  # half way down
    assert rates[110:] == pytest.approx([0.1] * 10)
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
