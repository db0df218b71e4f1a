"""The page: upload a picture, see it enlarged beside bicubic interpolation, download it.

    python app.py [--model NAME|FILE] [--port N]

It listens on this computer only (127.0.0.1) and asks nothing of any other.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, cast

# An installed package comes with the compiled kernels, which the source tree beside this file may not have.
if __name__ == "__main__" and sys.path[0] == str(Path(__file__).resolve().parent):
    sys.path.append(sys.path.pop(0))

# Before gradio is imported: no usage statistics, no look for a newer version.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from addersr import checkpoint
from addersr.energy.estimate import estimate
from addersr.errors import AdderSRError, CheckpointError, ImageError
from addersr.images import files
from addersr.images.files import Picture
from addersr.images.resize import imresize
from addersr.inference import options
from addersr.inference.ensemble import VIEWS
from addersr.inference.upscaler import Upscaler, fill_hidden
from addersr.models.presets import Network

SAMPLES = Path(__file__).parent / "data" / "samples"
SCALES = (2, 3, 4)
MAX_RESULT_PIXELS = 24_000_000
"""The page's pixel budget: a result that a browser still shows well; `addersr upscale` has none."""

CSS = """
.gradio-container { width: 100%; max-width: 1240px !important; margin: 0 auto !important; }
@media (min-width: 800px) { #result { min-height: 420px; } }
#title h1 { margin-bottom: 0; }
#title p { color: var(--body-text-color-subdued); margin-top: .25rem; }
"""


def available_models(named: str | None) -> dict[int, str]:
    """Scale -> model to use, by name or file: the named one's scale, or each with shipped weights.

    Raises:
        CheckpointError: no such weights, or nothing is shipped.
    """
    if named is not None:
        return {checkpoint.load(named).model.scale: named}
    models = {}
    for scale in SCALES:
        try:
            models[scale] = checkpoint.default_name(scale)
        except CheckpointError:
            continue
    if not models:
        raise CheckpointError(
            "no weights are shipped with this copy; name a file: python app.py --model FILE"
        )
    return models


Shown: TypeAlias = tuple[tuple[str, str], str, str]
"""(bicubic, network), what was done, file to download."""


def make_upscale(models: dict[int, str], folder: Path) -> Callable[..., Iterator[Shown]]:
    """The page's one function, which writes its results into a folder of their own below ``folder``.

    A generator, because gradio goes on with it when it has made its own copies: then the folder is removed.
    """
    upscalers: dict[int, Upscaler] = {}

    def upscale(
        path: str | None,
        scale: int,
        self_ensemble: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # how gradio finds it
    ) -> Iterator[Shown]:
        """Enlarge a picture file: ((bicubic, network), what was done, file to download)."""
        if path is None:
            raise _error("Choose a picture first.")
        source = Path(path)
        # The files lie in folders of gradio's and our own, whose names tell the user nothing.
        hidden = [f"{source.parent}{os.sep}"]
        try:
            if scale not in upscalers:
                upscalers[scale] = Upscaler(checkpoint.load(models[scale]).model, device="auto")
            upscaler = upscalers[scale]
            upscaler.self_ensemble = self_ensemble  # one picture at a time goes through this function
            with TemporaryDirectory(dir=folder) as place:
                hidden.append(f"{place}{os.sep}")
                picture = files.read(source, max_pixels=MAX_RESULT_PIXELS // scale**2)
                download = _place_download(picture, scale, source, Path(place))
                started = time.perf_counter()
                progress(0, desc="Upscaling")
                result = upscaler.upscale_picture(
                    picture, lambda done, total: progress((done, total), unit="tiles")
                )
                seconds = time.perf_counter() - started
                shown = _write_results(picture, result, scale, download)
                height, width = picture.pixels.shape[:2]
                sizes = f"{width} x {height} → {width * scale} x {height * scale}"
                done = f"**{sizes}** in {seconds:.1f} s with `{Path(models[scale]).stem}`"
                done += f"  \n{_energy(upscaler, height, width)}"
                yield shown, done, str(download)
        except (AdderSRError, OSError) as error:
            message = str(error)
            if isinstance(error, OSError):
                message = (
                    f"{error.strerror or error}; free some space on this computer, or start the page again"
                )
            for part in hidden:
                message = message.replace(part, "")
            raise _error(message) from error
        except MemoryError as error:
            raise _error("Not enough memory; crop the picture.") from error

    return upscale


def _energy(upscaler: Upscaler, height: int, width: int) -> str:
    """The line about energy, see `addersr.energy.estimate`; empty where it cannot be told."""
    try:
        energy = estimate(cast(Network, upscaler.model), height, width)
    except AdderSRError:  # an operator that it cannot count is no reason to withhold the picture
        return ""
    passes = len(VIEWS) if upscaler.self_ensemble else 1
    own, twin = energy.mj * passes, energy.twin_mj * passes
    beside = "" if own == twin else f"; of its convolutional twin {twin:.3g} mJ"
    return f"Energy of the arithmetic, by estimate: {own:.3g} mJ{beside}"


def _error(message: str) -> gr.Error:
    return gr.Error(message, duration=None, print_exception=False)


def _place_download(picture: Picture, scale: int, source: Path, folder: Path) -> Path:
    """Where the result goes: in the picture's own format, or PNG where that is none or cannot hold it."""
    download = folder / f"{source.stem}_x{scale}{source.suffix}"
    try:
        files.check_writable(download, picture, scale=scale)
    except ImageError:
        download = download.with_name(f"{source.stem}_x{scale}.png")
        files.check_writable(download, picture, scale=scale)
    return download


def _write_results(picture: Picture, result: Picture, scale: int, download: Path) -> tuple[str, str]:
    """Write the file to download and beside it the slider's two, (bicubic, network)."""
    files.write(download, result)
    # The slider gets PNG, with the colour profile, so that the browser shows both as they are.
    bicubic, network = (download.with_name(f"{name}.png") for name in ("bicubic", "network"))
    files.write(bicubic, enlarge_bicubic(picture, scale))
    files.write(network, result)
    return str(bicubic), str(network)


def enlarge_bicubic(picture: Picture, scale: int) -> Picture:
    """What the network is compared with: MATLAB's bicubic interpolation, of the same pixels."""
    pixels = fill_hidden(picture).pixels
    alpha = None if picture.alpha is None else imresize(picture.alpha, scale)
    return replace(picture, pixels=imresize(pixels, scale), alpha=alpha)


def _path_of(payload: Any) -> str | None:
    """The uploaded file as it is; gradio has checked that it is one of its uploads."""
    return None if payload is None else payload.path


def build_page(models: dict[int, str], folder: Path) -> gr.Blocks:
    """The page; ``folder`` takes its results."""
    samples = [str(p) for p in sorted(SAMPLES.glob("*.*")) if p.suffix in files.EXTENSIONS]
    hour = 3600
    page = gr.Blocks(title="AdderSR", analytics_enabled=False, fill_width=True, delete_cache=(hour, hour))
    with page:
        gr.Markdown("# AdderSR\nSuper-resolution without multiplications.", elem_id="title")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=280):
                upload = gr.Image(
                    type="filepath", sources=["upload", "clipboard"], label="Picture", height=300
                )
                # gr.Image opens the file, and would fail on a bad one before our own, clearer error.
                upload.preprocess = _path_of  # type: ignore[method-assign]
                scale = gr.Radio(
                    [(f"x{n}", n) for n in models],
                    value=min(models),
                    label="Scale",
                    interactive=len(models) > 1,
                )
                self_ensemble = gr.Checkbox(
                    label="Self-ensemble", info="Somewhat better, 8 times as long.", value=False
                )
                start = gr.Button("Upscale", variant="primary", size="lg")
                if samples:
                    gr.Examples(samples, upload, label="Or try one of these", cache_examples=False)
            with gr.Column(scale=3, min_width=360):
                slider = gr.ImageSlider(
                    label="Bicubic (left) and AdderSR (right)",
                    elem_id="result",
                    format="png",
                    interactive=False,
                    max_height=560,
                    buttons=["fullscreen"],  # its download would give a PNG, not the file
                )
                done = gr.Markdown("Choose a picture and a scale, then drag the handle to compare.")
                download = gr.DownloadButton("Download", interactive=False)

        own: dict[str, Any] = {"queue": False, "api_visibility": "private"}
        start.click(
            lambda: (None, "", gr.update(interactive=False, value=None)),
            outputs=[slider, done, download],
            **own,
        ).then(
            make_upscale(models, folder),
            [upload, scale, self_ensemble],
            [slider, done, download],
            api_name="upscale",
            show_progress_on=slider,
        ).success(lambda: gr.update(interactive=True), outputs=download, **own)
    page.queue(max_size=20, default_concurrency_limit=1)
    return page


def launch(page: gr.Blocks, port: int | None) -> str:
    """Serve the page on this computer, in the background; its address.

    Raises:
        OSError: the port is taken or not to be had, or without ``port`` none is free.
    """
    # Fonts that are named as plain text are the system's own; the default theme's come from another host.
    system_fonts = ["system-ui", "sans-serif"]
    theme = gr.themes.Soft(primary_hue="teal", font=system_fonts, font_mono=["ui-monospace", "monospace"])
    launched: tuple[Any, str, str] = page.launch(
        server_name="127.0.0.1",
        server_port=port,
        max_file_size="50mb",
        theme=theme,
        css=CSS,
        footer_links=["api", "gradio", "settings"],
        run_history=False,
        ssr_mode=False,
        share=False,
        quiet=True,  # it would advertise public links
        prevent_thread_lock=True,
    )
    return launched[1]


def main(argv: list[str] | None = None) -> int:
    """Run the page until it is interrupted; the exit code."""
    parser = argparse.ArgumentParser(description="AdderSR as a page in the browser, on this computer only.")
    parser.add_argument(
        "--model", metavar="NAME|FILE", help="weights (default: the shipped ones of each scale)"
    )
    parser.add_argument(
        "--port",
        type=partial(options.whole_number, most=65535),
        metavar="N",
        help="port to listen on (default: the first free from 7860)",
    )
    args = parser.parse_args(argv)
    try:
        models = available_models(args.model)
    except AdderSRError as error:
        print(f"app.py: error: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder below is removed
    with TemporaryDirectory(prefix="addersr-page-") as folder:
        page = build_page(models, Path(folder))
        try:
            address = launch(page, args.port)
        except OSError:
            which = (
                "none of the usual ports is free" if args.port is None else f"port {args.port} is not free"
            )
            print(f"app.py: error: {which}; choose another with --port N", file=sys.stderr)
            return 1
        print(f"AdderSR is at {address} (Ctrl+C stops it)", flush=True)
        page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
