"""Peak memory of `addersr upscale`: pictures of several kinds to a result of 100 megapixels, each in a fresh process.

    python benchmarks/memory.py [--result 10000] [--scale 2] [--count 3] [--kinds "8 bits" ...] [--model NAME|FILE]
                                [--json FILE]

The results are squares of `--result` pixels a side, of pictures of a pattern, as PNG, `--count` of a kind: from three
on, one is read and another is written while a third is computed, so that the peak is that of a batch of any length.
`--scale` is the command's; what is not a power of the network's is resampled. Without `--model` the network is
`edsr_tiny_x2` with random weights, quickly done: where a picture is larger than a tile, feature maps take the same
budget for every network (`addersr.inference.upscaler`). Printed are the peak of the resident memory, and for comparison
what the samples of one picture and of its result take. Linux only.
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path

import measure
import numpy as np
import torch

from addersr import checkpoint, cli
from addersr.images import files
from addersr.images.files import Picture
from addersr.inference.options import whole_number
from addersr.models import build

KINDS = {
    "8 bits": (np.uint8, False),
    "8 bits, alpha": (np.uint8, True),
    "16 bits": (np.uint16, False),
    "16 bits, alpha": (np.uint16, True),
}


def make_pictures(folder: Path, kind: str, side: int, count: int) -> int:
    """Write the pictures; how many bytes the samples of one have."""
    dtype, has_alpha = KINDS[kind]
    steps = np.arange(side).astype(dtype)
    pixels = np.empty((side, side, 3), dtype)
    for channel in range(3):
        pixels[..., channel] = steps[:, None] * dtype(channel + 3) + steps * dtype(7)
    # Halves, so that there are hidden colours to be filled in.
    alpha = np.full((side, side), np.iinfo(dtype).max, dtype) if has_alpha else None
    if alpha is not None:
        alpha[: side // 2] = 0
    files.write(folder / "0.png", Picture(pixels, alpha))
    for index in range(1, count):
        shutil.copy(folder / "0.png", folder / f"{index}.png")
    return pixels.nbytes + (0 if alpha is None else alpha.nbytes)


def run(words: list[str]) -> tuple[float, float]:
    """Peak MiB of this process, which is a fresh one, and seconds of an `addersr` command."""
    started = time.perf_counter()
    if code := cli.main(words):
        raise RuntimeError(f"addersr {' '.join(words)}: exit code {code}")
    return measure.kib("VmHWM") / 1024, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of addersr upscale.")
    parser.add_argument("--result", type=whole_number, default=10000, help="pixels, the side of a result")
    parser.add_argument("--scale", type=whole_number, default=2, help="of the results")
    parser.add_argument("--count", type=whole_number, default=3, help="pictures of a kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--model", metavar="NAME|FILE")
    parser.add_argument("--json", type=measure.output_file, metavar="FILE")
    args = parser.parse_args()
    report = measure.Report()
    with tempfile.TemporaryDirectory() as place:
        model = args.model
        if model is None:
            torch.manual_seed(0)
            model = str(Path(place) / "tiny.safetensors")
            checkpoint.save(model, build("edsr_tiny_x2"), {})
        for kind in args.kinds:
            folder = Path(place) / kind
            (folder / "in").mkdir(parents=True)
            side = -(-args.result // args.scale)
            size = make_pictures(folder / "in", kind, side, args.count)
            words = ["upscale", str(folder / "in"), "-o", str(folder / "out"), "--model", model, "--quiet"]
            words += ["--scale", str(args.scale)]
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peak, seconds = pool.apply(run, (words,))
            shutil.rmtree(folder)
            bytes_of_result = size * args.scale**2
            name = f"{kind}; a picture {size / 2**20:.0f} MiB, its x{args.scale} {bytes_of_result / 2**20:.0f} MiB"
            report.add(name, (args.count, side, side), seconds, None, peak)
    report.finish(args.json)


if __name__ == "__main__":
    main()
