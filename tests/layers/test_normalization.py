"""BatchNorm over several processes: here two threads, whose sums over the processes are taken hand in hand."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from addersr.layers import AdderUnit, adder, normalization
from addersr.ops import unavailable_reason

SIZES = (1, 3)
"""Pictures in the batch of each process."""


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    """together(work) calls work(0) and work(1) at once, each seeing torch.distributed with two processes."""
    barrier, brought = threading.Barrier(2, timeout=60), [torch.empty(0)] * 2
    rank = threading.local()

    def all_reduce(tensor: Tensor) -> None:
        brought[rank.number] = tensor.clone()
        barrier.wait()
        total = brought[0] + brought[1]
        barrier.wait()
        tensor.copy_(total)

    def run(work: Callable[[int], None]) -> None:
        def process(number: int) -> None:
            rank.number = number
            try:
                work(number)
            except BaseException:
                barrier.abort()
                raise

        distributed = SimpleNamespace(
            is_available=lambda: True,
            is_initialized=lambda: True,
            get_world_size=lambda: 2,
            all_reduce=all_reduce,
        )
        with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
            patch.setattr(normalization, "dist", distributed)
            list(pool.map(process, range(2)))

    return run


def used(unit: AdderUnit, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """The result, its gradients and what the unit remembers."""
    x = x.clone().requires_grad_()
    y = unit(x)
    y.backward(grad)
    gradients = {name: p.grad for name, p in unit.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad, **gradients, **dict(unit.named_buffers())}


@pytest.mark.parametrize("shortcut", ["learnable", "fixed", "none"])
@pytest.mark.parametrize("path", ["fused", "in pieces", "in pieces, float64"])
def test_two_processes_are_as_one_with_the_batches_of_both(
    together: Callable[[Callable[[int], None]], None],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    shortcut: adder.Shortcut,
) -> None:
    if path == "fused" and unavailable_reason("native") is not None:
        pytest.skip("no compiled kernels to fuse a unit with")
    if path == "in pieces":
        monkeypatch.setattr(adder, "unavailable_reason", lambda backend: "told so")
    dtype, tolerance = (torch.float64, 1e-12) if path.endswith("float64") else (torch.float32, 2e-5)
    torch.manual_seed(0)
    unit = AdderUnit(4, 8, shortcut=shortcut).to(dtype)
    with torch.no_grad():
        # A power activation nearly flat at 0: rounding that moves a value across moves no gradient.
        unit.power.alpha.fill_(2)
        unit.norm.weight.copy_(torch.rand(8) + 0.5)
        unit.norm.bias.copy_(torch.rand(8))
    # The batches differ in brightness and contrast, so that statistics of one are far from those of both.
    x = torch.cat([torch.randn(n, 4, 6, 5) * (1 + 3 * i) + 4 * i for i, n in enumerate(SIZES)]).to(dtype)
    grad = torch.randn(sum(SIZES), 8, 6, 5, dtype=dtype)
    units = [copy.deepcopy(unit) for _ in SIZES]
    parts: list[dict[str, Tensor]] = [{}, {}]

    def work(number: int) -> None:
        of_process = x.split(SIZES)[number], grad.split(SIZES)[number]
        parts[number] = used(units[number], *of_process)

    together(work)
    for name, whole in used(unit, x, grad).items():
        ours = [part[name] for part in parts]
        if name in ("y", "x"):
            got = [torch.cat(ours)]
        elif name in dict(unit.named_buffers()):
            got = ours  # the same in both
        else:
            got = [ours[0] + ours[1]]
        for tensor in got:
            atol = tolerance * whole.abs().max().item()
            torch.testing.assert_close(
                tensor, whole, rtol=tolerance, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_a_process_of_its_own_and_a_unit_that_is_not_training_ask_nobody(
    together: Callable[[Callable[[int], None]], None],
) -> None:
    assert not normalization.spans_processes(AdderUnit(2, 2).norm)
    evaluated = AdderUnit(2, 2).eval()
    seen = []
    together(lambda _: seen.append(normalization.spans_processes(evaluated.norm)))
    assert seen == [False, False]
