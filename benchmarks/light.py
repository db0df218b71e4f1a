"""Published light networks at x2, with random weights: to be timed, for no network's time depends on its weights.

Written after their papers, which are named. That they are the networks meant, their multiply-accumulates show: they
are those that CARN's table 1 prints (tests/benchmarks/test_light.py); but for FSRCNN, whose last layer is counted
there for each pixel of the result, and is computed for each of the picture. LapSRN is not here: its network has three
times the operations that are printed there. In place of luminance the first channel is taken; colour is left out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 2


class SRCNN(nn.Sequential):
    """9-5-5 with 64 and 32 channels, on luminance that bicubic has enlarged. Dong et al., TPAMI 2016."""

    def __init__(self) -> None:
        layers = (
            nn.Conv2d(1, 64, 9, padding=4),
            nn.Conv2d(64, 32, 5, padding=2),
            nn.Conv2d(32, 1, 5, padding=2),
        )
        super().__init__(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 1, 2 H, 2 W)."""
        large = F.interpolate(x[:, :1], scale_factor=SCALE, mode="bicubic")
        return super().forward(large)


class FSRCNN(nn.Sequential):
    """d = 56, s = 12, m = 4, on luminance. Dong et al., ECCV 2016."""

    def __init__(self, d: int = 56, s: int = 12, m: int = 4) -> None:
        mapping = [layer for _ in range(m) for layer in (nn.Conv2d(s, s, 3, padding=1), nn.PReLU(s))]
        super().__init__(
            *(nn.Conv2d(1, d, 5, padding=2), nn.PReLU(d), nn.Conv2d(d, s, 1), nn.PReLU(s)),
            *mapping,
            *(nn.Conv2d(s, d, 1), nn.PReLU(d), nn.ConvTranspose2d(d, 1, 9, SCALE, 4, output_padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 1, 2 H, 2 W)."""
        return super().forward(x[:, :1])


class _Residual(nn.Module):
    """Two convolutions and a shortcut; with groups a third of 1x1, which mixes them."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        body: list[nn.Module] = [nn.Conv2d(channels, channels, 3, padding=1, groups=groups), nn.ReLU()]
        body.append(nn.Conv2d(channels, channels, 3, padding=1, groups=groups))
        if groups > 1:
            body += [nn.ReLU(), nn.Conv2d(channels, channels, 1)]
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class _Cascade(nn.Module):
    """Three blocks; each is given, through a 1x1 convolution, what all before it made."""

    def __init__(self, channels: int, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.mixers = nn.ModuleList(
            nn.Conv2d(channels * (index + 2), channels, 1) for index in range(len(blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        made = x
        for block, mixer in zip(self.blocks, self.mixers, strict=True):
            made = torch.cat([made, block(x)], 1)
            x = F.relu(mixer(made))
        return x


class CARN(nn.Sequential):
    """Cascading residual network; with four groups CARN-M, whose blocks share weights. Ahn et al., ECCV 2018."""

    def __init__(self, groups: int = 1, channels: int = 64) -> None:
        def cascade() -> nn.Module:
            blocks: list[nn.Module] = [_Residual(channels, groups) for _ in range(3)]
            return _Cascade(channels, [blocks[0]] * 3 if groups > 1 else blocks)

        super().__init__(
            nn.Conv2d(3, channels, 3, padding=1),
            _Cascade(channels, [cascade() for _ in range(3)]),
            nn.Conv2d(channels, channels * SCALE**2, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.PixelShuffle(SCALE),
            nn.Conv2d(channels, 3, 3, padding=1),
        )


def networks() -> dict[str, nn.Module]:
    """Name, as published.csv has it -> network, in eval mode and the memory format in which torch is fastest here."""
    made = {"SRCNN": SRCNN(), "FSRCNN": FSRCNN(), "CARN": CARN(), "CARN-M": CARN(groups=4)}
    return {name: module.eval().to(memory_format=torch.channels_last) for name, module in made.items()}
