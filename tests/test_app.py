"""The page, three ways: its function, the running program through gradio's client, and a real browser."""

import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import sync_playwright

from addersr import checkpoint
from addersr.images import files
from addersr.images.files import Picture
from addersr.images.resize import imresize
from addersr.inference.upscaler import Upscaler
from addersr.models import build

ROOT = Path(__file__).parents[1]
CHROMIUM = next(
    (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoint.save(path, build("edsr_tiny_x2"), {})
    return path


@pytest.fixture(scope="module")
def address(weights, tmp_path_factory):
    """`python app.py`, running, on a port of the system's choice."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GRADIO_")}
    environment["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    environment["TMPDIR"] = str(tmp_path_factory.mktemp("temporary"))
    command = [sys.executable, str(ROOT / "app.py"), "--model", str(weights), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line
        yield f"http://127.0.0.1:{port}/"
        process.terminate()
        assert process.wait(30) == 0
    assert list(Path(environment["TMPDIR"]).glob("addersr-page-*")) == []


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "holiday.jpg"
    files.write(path, Picture(np.random.default_rng(0).integers(0, 256, (30, 44, 3), np.uint8)))
    return path


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("not a picture")
    return path


# The function.


@pytest.fixture
def app(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    return importlib.import_module("app")


def no_progress(*args, **kwargs):
    pass


@pytest.fixture
def upscale(app, weights, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    function = app.make_upscale({2: str(weights)}, folder)
    return lambda path: function(path and str(path), 2, progress=no_progress)


def test_function_gives_both_pictures_and_the_true_file(upscale, weights, photo):
    steps = upscale(photo)
    (bicubic, network), done, download = next(steps)
    picture = files.read(photo)
    expected = Upscaler(checkpoint.load(weights).model)(picture.pixels)
    assert np.array_equal(files.read(network).pixels, expected)
    assert np.array_equal(files.read(bicubic).pixels, imresize(picture.pixels, 2))
    assert Path(download).name == "holiday_x2.jpg"
    assert files.read(download).pixels.shape == (60, 88, 3)
    assert "44 x 30 → 88 x 60" in done


def test_energy_is_told_and_the_self_ensemble_takes_eight_times_as_much(app, weights, photo, tmp_path):
    function = app.make_upscale({2: str(weights)}, tmp_path)

    def energies(self_ensemble):
        (_, network), done, _ = next(steps := function(str(photo), 2, self_ensemble, progress=no_progress))
        pixels = files.read(network).pixels
        steps.close()
        return pixels, [float(number) for number in re.findall(r"([0-9.]+) mJ", done)]

    pixels, (own, twin) = energies(False)
    turned, (eight, _) = energies(True)
    assert 0 < own < twin and eight == pytest.approx(8 * own, rel=0.01)
    assert np.array_equal(
        turned, Upscaler(checkpoint.load(weights).model, self_ensemble=True)(files.read(photo).pixels)
    )
    assert np.array_equal(energies(False)[0], pixels)


def test_results_stay_until_they_are_copied_and_no_longer(upscale, photo, tmp_path):
    first, second = upscale(photo), upscale(photo)
    downloads = [Path(next(steps)[2]) for steps in (first, second)]
    assert list(first) == []
    assert [path.exists() for path in downloads] == [False, True]
    assert list(second) == []
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize(("name", "size"), [("wide.webp", (1, 9000)), ("long.jpg", (8, 8))])
def test_png_where_the_format_cannot_hold_the_result(upscale, tmp_path, name, size):
    xmp = b"<exif:PixelXDimension>8</exif:PixelXDimension>" + b" " * 65400
    files.write(tmp_path / "a.png", Picture(np.zeros((*size, 3), np.uint8), xmp=xmp + b" " * 200))
    (tmp_path / "a.png").rename(tmp_path / name)
    _, _, download = next(steps := upscale(tmp_path / name))
    assert Path(download).suffix == ".png"
    assert files.read(download).pixels.shape == (size[0] * 2, size[1] * 2, 3)
    steps.close()


def test_bicubic_has_no_hidden_colour_either(upscale, tmp_path):
    alpha = np.zeros((20, 20), np.uint8)
    alpha[5:15, 5:15] = 255
    pixels = np.where(alpha[..., None] > 0, np.uint8([200, 180, 90]), np.uint8(0))
    files.write(tmp_path / "a.png", Picture(pixels, alpha))
    (bicubic, _), _, _ = next(steps := upscale(tmp_path / "a.png"))
    assert (files.read(bicubic).pixels == [200, 180, 90]).all()
    steps.close()


def test_alpha_is_in_both_pictures(upscale, tmp_path):
    alpha = np.tile(np.arange(20, dtype=np.uint8) * 10, (12, 1))
    files.write(tmp_path / "a.png", Picture(np.zeros((12, 20, 3), np.uint8), alpha))
    (bicubic, network), _, download = next(steps := upscale(tmp_path / "a.png"))
    for path in (bicubic, network, download):
        assert np.array_equal(files.read(path).alpha, imresize(alpha, 2))
    steps.close()


def test_errors_of_the_function_are_for_the_page(app, upscale, text, photo, monkeypatch):
    with pytest.raises(gr.Error, match="Choose a picture first"):
        next(upscale(None))
    with pytest.raises(gr.Error, match=r"'text.png: not a PNG, JPEG, WebP, TIFF, GIF or BMP picture"):
        next(upscale(text))
    monkeypatch.setattr(app, "MAX_RESULT_PIXELS", 44 * 30 * 4 - 1)
    with pytest.raises(gr.Error, match="44 x 30 is too many pixels"):
        next(upscale(photo))
    monkeypatch.undo()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_encode", fail)
    with pytest.raises(gr.Error) as caught:
        next(upscale(photo))
    assert "holiday_x2.png: cannot be written: No space left on device" in str(caught.value)
    assert str(photo.parent) not in str(caught.value)


def test_models_are_the_shipped_ones_of_each_scale(app, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    assert app.main([]) == 1
    assert capsys.readouterr().err.startswith("app.py: error: no weights are shipped")
    for name in ("edsr_small_x2", "edsr_large_x2", "edsr_baseline_x4"):
        shutil.copy(weights, tmp_path / f"{name}.safetensors")
    assert app.available_models(None) == {2: "edsr_small_x2", 4: "edsr_baseline_x4"}
    assert app.available_models(str(weights)) == {2: str(weights)}


def test_unknown_model_is_one_line(app, capsys):
    assert app.main(["--model", "no_such_model"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_there_is_not(app, port, capsys):
    with pytest.raises(SystemExit) as stopped:
        app.main(["--port", port])
    assert stopped.value.code == 2
    assert "--port" in capsys.readouterr().err.splitlines()[-1]


def test_a_port_that_is_taken_is_one_line(weights):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(ROOT / "app.py"), "--model", str(weights), "--port", str(port)]
        ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 1
    line = f"app.py: error: port {port} is not free; choose another with --port N\n"
    assert ran.stderr == line


# The running program, through gradio's client.


@pytest.fixture
def client(address, tmp_path):
    client = Client(address, verbose=False, download_files=tmp_path)
    yield client
    client.close()


def test_client_gets_the_results(client, photo):
    (bicubic, network), done, download = client.predict(handle_file(str(photo)), 2, api_name="/upscale")
    assert files.read(bicubic).pixels.shape == files.read(network).pixels.shape == (60, 88, 3)
    assert files.read(download).pixels.shape == (60, 88, 3)
    assert Path(download).suffix == ".jpg"
    assert "88 x 60" in done


def test_client_gets_the_error(client, text):
    with pytest.raises(AppError, match="not a PNG, JPEG, WebP, TIFF, GIF or BMP picture"):
        client.predict(handle_file(str(text)), 2, api_name="/upscale")


def upload(address, path):
    """The server's own name for a file that is sent to it."""
    with path.open("rb") as file:
        answer = httpx.post(f"{address}gradio_api/upload", files={"files": (path.name, file)})
    return answer.json()[0]


@pytest.mark.parametrize(("place", "event"), [("uploaded", "complete"), ("elsewhere", "error")])
def test_a_program_cannot_have_the_computer_s_files_read(address, photo, place, event):
    """The client would upload the file that it is given; the raw protocol names it where it lies."""
    path = upload(address, photo) if place == "uploaded" else str(photo)
    body = json.dumps({"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, 2, False]}).encode()
    call = urllib.request.Request(
        f"{address}gradio_api/call/upscale", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(call) as answer:
        call_id = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/upscale/{call_id}") as answer:
        events = re.findall("^event: (.*)$", answer.read().decode(), re.MULTILINE)
    assert events[-1] == event


def test_only_the_upscaling_is_offered_to_programs(client):
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/upscale"]


# The browser.


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium here; on Debian: apt-get install chromium")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The open page; afterwards, that there was no error in it and nothing asked of another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(30_000)
    problems, hosts = [], set()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.goto(address)
    yield page
    context.close()
    assert problems == []
    assert hosts - {None} == {"127.0.0.1"}  # None: data and blob addresses


def start(page, path):
    page.get_by_role("button", name="Upscale", exact=True).wait_for()
    page.set_input_files("input[type=file]", str(path))
    page.get_by_role("button", name="Remove Image").wait_for()
    page.get_by_role("button", name="Upscale", exact=True).click()


def test_browser_upload_compare_download(page, photo, tmp_path):
    assert page.get_by_role("button", name="Download").is_disabled()
    start(page, photo)
    pictures = page.locator('[data-testid="imageslider-image"]')
    pictures.last.wait_for()
    page.wait_for_function(
        """() => [...document.querySelectorAll('[data-testid="imageslider-image"]')]
            .every(p => p.complete && p.naturalWidth === 88 && p.naturalHeight === 60)"""
    )
    assert pictures.count() == 2
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert re.fullmatch(r"holiday_x2.*\.jpg", download.value.suggested_filename)
    download.value.save_as(tmp_path / "downloaded.jpg")
    assert files.read(tmp_path / "downloaded.jpg").pixels.shape == (60, 88, 3)


def test_browser_shows_the_error(page, text):
    start(page, text)
    toast = page.get_by_test_id("toast-body")
    toast.wait_for()
    assert "text.png: not a PNG, JPEG, WebP, TIFF, GIF or BMP picture" in toast.inner_text()
    assert page.get_by_role("button", name="Download").is_disabled()


def test_browser_without_a_picture(page):
    page.get_by_role("button", name="Upscale", exact=True).click()
    toast = page.get_by_test_id("toast-body")
    toast.wait_for()
    assert "Choose a picture first." in toast.inner_text()
