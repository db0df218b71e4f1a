"""The page: upload pictures, see them enlarged beside bicubic interpolation, download them.

    python app.py [--model NAME|FILE] [--port N] [--host ADDRESS --auth @FILE]

Unless told otherwise it listens on this computer only (127.0.0.1); it asks nothing of any other. What it does is in
`addersr.page`; here is what it looks like.
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

# An installed package comes with the compiled kernels, which the source tree beside this file may not have.
if __name__ == "__main__" and sys.path[0] == str(Path(__file__).resolve().parent):
    sys.path.append(sys.path.pop(0))

# Before gradio is imported: no usage statistics, no look for a newer version.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from starlette.middleware import Middleware

from addersr.errors import AdderSRError, UsageError
from addersr.images import files
from addersr.page import text
from addersr.page.arguments import check_host, credentials, host_names, make_parser
from addersr.page.desk import Desk
from addersr.page.guard import Guard
from addersr.page.login import Login
from addersr.page.networks import AUTO, Networks
from addersr.page.run import MAX_FILES, SCALES, Run, order_of
from addersr.page.store import Store

SAMPLES = Path(__file__).parent / "data" / "samples"

DISK_FACTOR = 40
"""All uploads and results together, in pictures of the largest size that is taken."""

SIDES = "Bicubic | AdderSR"
"""What lies to the left and to the right of the slider's handle."""

OWN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Of what the page does for itself."""

Update: TypeAlias = Any
"""What gradio takes for a component: a value, or what else of it changes."""


class Page:
    """The components and what they do."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        networks = desk.networks
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                self.pictures = gr.File(
                    file_count="multiple",
                    label="Drop or paste pictures",
                    height=190,
                    elem_id="pictures",
                )
                # gr.File would look into the file, and leave an empty one beside it; it has no option not to.
                self.pictures.preprocess = _paths_of  # type: ignore[method-assign]
                self._samples()
                self.scale = gr.Radio([(f"x{n}", n) for n in SCALES], value=SCALES[0], label="Scale")
                self.model = gr.Dropdown(
                    [("chosen for the scale" if name == AUTO else name, name) for name in networks.names],
                    value=networks.names[0],
                    label="Model",
                    interactive=len(networks.names) > 1,
                )
                precisions = networks.precisions(networks.names[0])
                every = [p for name in networks.names for p in networks.precisions(name)]
                self.precision = gr.Radio(
                    list(dict.fromkeys([*precisions, *every])), value=precisions[0], label="Precision"
                )
                self.self_ensemble = gr.Checkbox(
                    label="Self-ensemble", info="Somewhat better, in 8 times the time.", value=False
                )
                with gr.Row():
                    self.start = gr.Button(
                        "Upscale", variant="primary", size="lg", min_width=140, elem_id="start"
                    )
                    self.stop = gr.Button(
                        "Stop", variant="stop", size="lg", min_width=90, interactive=False, scale=0
                    )
            with gr.Column(scale=3, min_width=320):
                self.status = gr.HTML(
                    '<div class="telling faint">Choose pictures and a scale; then drag the handle to compare.</div>',
                    elem_id="status",
                )
                self.chosen = gr.Dropdown([], label="Shown", visible=False, interactive=True)
                self.slider = gr.ImageSlider(
                    label=SIDES,
                    elem_id="result",
                    format="png",
                    interactive=False,
                    max_height=560,
                    buttons=["fullscreen"],  # its download would give a PNG, not the file
                )
                with gr.Row():
                    self.download = gr.DownloadButton("Download", interactive=False, min_width=140)
                    self.archive = gr.DownloadButton("All as zip", visible=False, min_width=140)
                self.report = gr.HTML(elem_id="report")
        self._connect()

    def _samples(self) -> None:
        samples = [str(p) for p in sorted(SAMPLES.glob("*.*")) if p.suffix in files.EXTENSIONS]
        if not samples:
            return

        # Gradio takes pictures from its own folder alone.
        room = self._desk.store.room()
        copies = [shutil.copy(sample, room) for sample in samples]

        def choose(index: int, pictures: list[str] | None) -> list[str]:
            return list(dict.fromkeys([*(pictures or ()), str(copies[index])]))

        shown = gr.Dataset(
            components=[gr.Image(visible=False)],
            samples=[[path] for path in samples],
            label="Or one of these",
            type="index",
            elem_id="samples",
        )
        shown.click(choose, [shown, self.pictures], self.pictures, queue=False, **OWN)

    def _connect(self) -> None:
        fields = [self.pictures, self.model, self.scale, self.precision, self.self_ensemble]
        view = [
            self.status, self.report, self.chosen, self.slider,
            self.download, self.archive, self.start, self.stop,
        ]  # fmt: skip
        running = self.start.click(self._begin, fields, view, **OWN).then(self._follow, outputs=view, **OWN)
        self.stop.click(self._halt, outputs=view, queue=False, cancels=[running], **OWN)
        self.chosen.input(self._show, self.chosen, [self.slider, self.download], queue=False, **OWN)
        self.model.change(self._precisions, self.model, self.precision, queue=False, **OWN)

        called = gr.Button(visible=False)
        results = gr.File(file_count="multiple", visible=False, label="results")
        report = gr.JSON(visible=False, label="report")
        called.click(self._call, fields, [results, report], api_name="upscale")

    def _begin(
        self,
        pictures: list[str] | None,
        model: str,
        scale: int,
        precision: str,
        self_ensemble: bool,
        request: gr.Request,
    ) -> tuple[Update, ...]:
        """Begin a run and clear away what an earlier one has shown; what cannot begin leaves it."""
        try:
            order = order_of(pictures, model, scale, precision, self_ensemble)
            self._desk.stop(_session(request))  # it can show one alone
            self._desk.begin(_session(request), order)
        except UsageError as error:
            gr.Warning(str(error))
            return tuple(_unchanged(8))
        nothing = gr.update(value=None, interactive=False)
        hidden = gr.update(visible=False)
        none = gr.update(choices=[], value=None, visible=False)
        return "", "", none, gr.update(value=None, label=SIDES), nothing, hidden, *_buttons(running=True)

    async def _follow(self, request: gr.Request) -> AsyncIterator[tuple[Update, ...]]:
        run = self._desk.latest(_session(request))
        if run is None:  # none was begun, or its user has left
            return
        try:
            told = 0
            while not await _ended(run, 0.25):
                done = len(run.results)
                yield (
                    text.progress(run, self._desk.before(run)),
                    *(_results(run, told) if told < done else _unchanged(5)),
                    *_unchanged(2),
                )
                told = done
            yield text.summary(run), *_results(run, told), *_buttons(running=False)
        finally:  # also when it is cancelled, or the browser has gone
            run.stop()

    async def _halt(self, request: gr.Request) -> tuple[Update, ...]:
        run = self._desk.latest(_session(request))
        if run is None:  # it has not even begun to wait
            return "Stopped.", *_unchanged(5), *_buttons(running=False)
        self._desk.stop(_session(request))
        await _ended(run, 1.0)  # nothing comes of the tile that is then still computed
        return text.summary(run), *_results(run, 0), *_buttons(running=False)

    def _show(self, index: int, request: gr.Request) -> tuple[Update, Update]:
        run = self._desk.latest(_session(request))
        if run is None or not 0 <= index < len(run.results):
            raise gr.Error("This result is no longer there; upscale it again.", print_exception=False)
        return _shown(run, index)

    def _precisions(self, model: str) -> Update:
        known = self._desk.networks.precisions(model)
        return gr.update(choices=list(known), value=known[0])

    async def _call(
        self,
        pictures: list[str] | None,
        model: str,
        scale: int,
        precision: str,
        self_ensemble: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # how gradio finds it
    ) -> AsyncIterator[tuple[list[str] | None, list[dict[str, Any]]]]:
        """Upscale pictures: (the results' files, what became of each picture).

        The second has for each picture "name", "error" (null where it was done), and of those that were done "result"
        (the file's name), "size" and "result_size" (width and height), "seconds", "megapixels_per_second", "model",
        "precision", "frames", "energy_mj" and "twin_energy_mj".
        """
        try:
            order = order_of(pictures, model, scale, precision, self_ensemble)
            run = self._desk.begin(_session(request), order)
        except UsageError as error:
            raise gr.Error(str(error), print_exception=False) from error
        try:
            while not await _ended(run, 0.25):
                progress(run.share_of_all)
                yield None, list(map(text.as_data, run.outcomes))
            results = [str(result.placed.download) for result in run.results]
            yield results, list(map(text.as_data, run.outcomes))
        finally:
            run.stop()


def _paths_of(payload: Any) -> list[str] | None:
    """The uploaded files as they are; gradio has checked that they are among its uploads."""
    return None if payload is None else [file.path for file in payload]


async def _ended(run: Run, seconds: float) -> bool:
    """Wait for the end of a run, at most so long, while others are served; whether it has come."""
    run.follow()
    deadline = time.monotonic() + seconds
    while not run.ended and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return run.ended


def _session(request: gr.Request) -> str:
    assert request.session_hash is not None  # the queue gives one to whoever comes without
    return request.session_hash


def _unchanged(count: int) -> list[Update]:
    return [gr.skip()] * count


def _buttons(*, running: bool) -> tuple[Update, Update]:
    return gr.update(interactive=not running), gr.update(interactive=running)


def _results(run: Run, told: int) -> tuple[Update, ...]:
    """What became of the pictures so far, of which ``told`` results have been shown."""
    results = run.results
    names = [(result.placed.download.name, index) for index, result in enumerate(results)]
    chosen = gr.update(choices=names, visible=len(names) > 1)
    if names and not told:
        chosen["value"] = 0
    first = _shown(run, 0) if results and not told else tuple(_unchanged(2))
    archive = gr.skip() if run.archive is None else gr.update(value=str(run.archive), visible=True)
    return text.outcomes(run.outcomes), chosen, *first, archive


def _shown(run: Run, index: int) -> tuple[Update, Update]:
    result = run.results[index]
    sides = gr.update(
        value=(str(result.placed.bicubic), str(result.placed.network)), label=f"Bicubic | {result.model}"
    )
    return sides, gr.update(value=str(result.placed.download), interactive=True)


def build_page(desk: Desk) -> gr.Blocks:
    """The page."""
    page = gr.Blocks(title="AdderSR", analytics_enabled=False, fill_width=True)
    with page:
        gr.Markdown("# AdderSR\nSuper-resolution without multiplications.", elem_id="title")
        Page(desk)

    def left(request: gr.Request) -> None:
        desk.leave(_session(request))

    page.unload(left)
    # The desk has a queue, so gradio's is to hold nobody up; api_open would let programs past it.
    page.queue(default_concurrency_limit=None, api_open=False)
    return page


def launch(
    page: gr.Blocks,
    store: Store,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    names: Collection[str] | None = None,
    max_upload: int = 50,
    queue: int = 20,
    login: Login | None = None,
) -> str:
    """Serve the page in the background; its address.

    Args:
        store: takes the uploads; gradio's folder.
        names: by which it may be called, as `Guard` has it.
        max_upload: the most of one picture in megabytes.
        queue: how many runs may wait.

    Raises:
        OSError: the port is taken or not to be had, or without ``port`` none is free.
    """
    fonts = ["system-ui", "sans-serif"]  # the system's own; the default theme's come from another host
    size = max_upload * 10**6
    guard = Middleware(Guard, store=store, most=MAX_FILES * size, names=names)
    store.settle()
    launched: tuple[Any, str, str] = page.launch(
        server_name=f"[{host}]" if ":" in host else host,
        server_port=port,
        auth=None if login is None else login.check,  # type: ignore[arg-type]  # it may be async, unlike its hint
        max_threads=2 * queue + 40,  # gradio's own queue is to be none
        max_file_size=size,
        app_kwargs={"middleware": [guard]},
        theme=gr.themes.Soft(primary_hue="teal", secondary_hue="teal", font=fonts, font_mono=fonts),
        css=text.STYLE,
        head=f"<script>const MOST = {size};\n{text.SCRIPT}</script>",
        footer_links=["api", "gradio", "settings"],
        state_session_capacity=200,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        share=False,
        mcp_server=False,
        quiet=True,  # it would advertise public links
        prevent_thread_lock=True,
    )
    return launched[1]


def main(argv: list[str] | None = None) -> int:
    """Run the page until it is interrupted; the exit code."""
    args = make_parser().parse_args(argv)
    try:
        pairs = credentials(args)
        check_host(args.host)
        login = None if pairs is None else Login(pairs)
        networks = Networks(args.model, args.device)
    except AdderSRError as error:
        print(f"app.py: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder below is removed
    with TemporaryDirectory(prefix="addersr-page-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        # Of this program alone: gradio serves what lies there.
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder / "examples")
        store = Store(folder, DISK_FACTOR * args.max_upload * 10**6)
        desk = Desk(networks, store, queue=args.queue, max_pixels=args.max_pixels)
        page = build_page(desk)
        try:
            address = launch(
                page,
                store,
                host=args.host,
                port=args.port,
                names=host_names(args),
                max_upload=args.max_upload,
                queue=args.queue,
                login=login,
            )
        except OSError:
            which = (
                "none of the usual ports is free" if args.port is None else f"port {args.port} is not free"
            )
            print(f"app.py: error: {which}; choose another with --port N", file=sys.stderr)
            return 1
        print(f"AdderSR is at {address} (Ctrl+C stops it)", flush=True)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)
            desk.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
