"""Pictures to build data sets of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakePictures = Callable[..., list[Path]]


@pytest.fixture
def make_pictures(tmp_path: Path) -> MakePictures:
    """make_pictures(folder, count, height, width) writes random PNGs, which differ from each other."""

    def make(
        folder: str, count: int = 3, height: int = 24, width: int = 30, suffix: str = ".png"
    ) -> list[Path]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        paths = [tmp_path / folder / f"{index:04}{suffix}" for index in range(count)]
        for path in paths:
            random = np.random.default_rng(len(path.name) + int(path.stem))
            Image.fromarray(random.integers(256, size=(height, width, 3), dtype=np.uint8)).save(path)
        return paths

    return make
