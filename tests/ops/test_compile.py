"""torch.compile: one graph through the public function and a whole network, compiled once for all sizes."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from addersr.models import build
from addersr.ops import adder2d

SIZES = [(2, 8, 9), (3, 13, 6), (5, 6, 31), (2, 17, 17)]


@pytest.fixture(autouse=True)
def compiled_once() -> Iterator[None]:
    """A second compilation of a function is an error."""
    torch.compiler.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch.compiler.reset()


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), ((2, 1), (0, 2))])
def test_forward_and_backward(backend: str, stride: object, padding: object) -> None:
    def layer(x: Tensor, weight: Tensor) -> Tensor:
        # work before and after, which has to fuse with nothing of the operation's own
        return adder2d(x.sin(), weight, stride, padding, backend).abs().sqrt()

    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    for n, h, w in SIZES:
        x = torch.randn(n, 3, h, w, requires_grad=True)
        expected, got = layer(x, weight), compiled(x, weight)
        torch.testing.assert_close(got, expected)
        grad = torch.randn_like(expected)
        torch.testing.assert_close(
            torch.autograd.grad(got, (x, weight), grad), torch.autograd.grad(expected, (x, weight), grad)
        )


def test_a_recompilation_would_be_seen(backend: str) -> None:
    """What the other tests rely on: without dynamic sizes, a second size is an error."""
    compiled = torch.compile(
        lambda x, weight: adder2d(x, weight, backend=backend), dynamic=False, backend="eager"
    )
    weight = torch.randn(4, 3, 3, 3)
    compiled(torch.randn(2, 3, 8, 8), weight)
    with pytest.raises(torch._dynamo.exc.RecompileError):
        compiled(torch.randn(2, 3, 9, 8), weight)


def test_a_whole_network() -> None:
    model = build("edsr_tiny_x2")
    torch.nn.init.normal_(model.tail.weight, std=0.1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # one picture sets the statistics; with fresh ones units give zeros
    model(torch.rand(2, 3, 16, 16))
    model.eval()
    # aot_eager: what is held here is the graph; a C++ compiler would need a minute for it
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for n, h, w in SIZES:
            x = torch.rand(n, 3, h, w)
            expected = model(x)
            torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-4)
