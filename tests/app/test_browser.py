"""The running program in a real browser."""

import base64
import re
import shutil
import zipfile
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from addersr.images import files

CHROMIUM = next(
    (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None
)
expect.set_options(timeout=60_000)
SHOWN = '[data-testid="imageslider-image"]'


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
    page.set_default_timeout(60_000)
    problems, hosts = [], set()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.goto(address)
    page.get_by_role("button", name="Upscale", exact=True).wait_for()
    yield page
    context.close()
    assert problems == []
    assert hosts - {None} == {"127.0.0.1"}  # None: data and blob addresses


def wait_for_files(page, count):
    page.wait_for_function(f"() => document.querySelectorAll('#pictures tr.file').length === {count}")


def start(page, *paths):
    page.set_input_files("#pictures input[type=file]", [str(path) for path in paths])
    wait_for_files(page, len(paths))
    page.get_by_role("button", name="Upscale", exact=True).click()


def wait_until_told(page, words):
    page.locator("#status", has_text=words).wait_for()


def wait_until_shown(page, width, height):
    page.wait_for_function(
        """([shown, width, height]) => {
            const pictures = [...document.querySelectorAll(shown)];
            return pictures.length === 2 && pictures.every(
                p => p.complete && p.naturalWidth === width && p.naturalHeight === height);
        }""",
        arg=[SHOWN, width, height],
    )


def download(page, button, path):
    with page.expect_download() as started:
        page.get_by_role("button", name=button).click()
    started.value.save_as(path)
    return started.value.suggested_filename


def test_upload_compare_download(page, photo, tmp_path):
    expect(page.get_by_role("button", name="Download")).to_be_disabled()
    start(page, photo)
    wait_until_told(page, "Done.")
    wait_until_shown(page, 88, 60)
    expect(page.locator("#report")).to_contain_text("its convolutional twin")
    assert re.fullmatch(r"holiday_x2.*\.jpg", download(page, "Download", tmp_path / "downloaded.jpg"))
    assert files.read(tmp_path / "downloaded.jpg").pixels.shape == (60, 88, 3)


def test_several_with_a_bad_one(page, photo, text, tmp_path):
    other = tmp_path / "other.png"
    files.write(other, files.Picture(files.read(photo).pixels[:20, :10]))
    start(page, photo, text, other)
    wait_until_told(page, "2 of 3 done. 1 could not be done, see below.")
    expect(page.locator(".refused")).to_contain_text("not a PNG, JPEG, WebP, TIFF, GIF or BMP picture")
    wait_until_shown(page, 88, 60)
    page.get_by_label("Shown").click()
    page.get_by_role("option", name="other_x2.png").click()
    wait_until_shown(page, 20, 40)
    download(page, "Download", tmp_path / "downloaded.png")
    assert files.read(tmp_path / "downloaded.png").pixels.shape == (40, 20, 3)
    download(page, "All as zip", tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist() == ["holiday_x2.jpg", "other_x2.png"]


GIVE = """([event, place, pictures]) => {
    const files = new DataTransfer();
    for (const [name, data, more] of pictures) {
        const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
        files.items.add(new File([bytes, new Uint8Array(more)], name, {type: "image/jpeg"}));
    }
    const made = event === "paste"
        ? new ClipboardEvent("paste", {clipboardData: files, bubbles: true, cancelable: true})
        : new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true});
    document.querySelector(place).dispatchEvent(made);
}"""
"""Pastes or drops pictures: names, what is in them, and how many bytes more there are."""


def give(page, event, place, *pictures):
    told = [(name, base64.b64encode(path.read_bytes()).decode(), more) for name, path, more in pictures]
    page.evaluate(GIVE, [event, place, told])


@pytest.mark.parametrize(
    ("event", "places"),
    [
        ("paste", ["body", "body"]),
        ("drop", ["body", "body"]),
        ("drop", ["#pictures button", "#pictures tr.file"]),
    ],
)
def test_pictures_that_are_pasted_or_dropped(page, photo, event, places):
    """Twice, because the field looks another way once there is one."""
    for count, place in enumerate(places, 1):
        give(page, event, place, ("given.jpg", photo, 0))
        wait_for_files(page, count)


def test_one_that_is_too_large_does_not_keep_the_others_out(page, photo):
    give(page, "drop", "body", ("small.jpg", photo, 0), ("large.jpg", photo, 51_000_000))
    wait_for_files(page, 1)
    told = page.locator("#left-out")
    expect(told).to_have_text("Too large, at most 50 MB are taken: large.jpg (51.0 MB)")
    give(page, "drop", "body", ("large.jpg", photo, 51_000_000))
    page.wait_for_timeout(300)
    wait_for_files(page, 1)
    give(page, "drop", "body", ("other.jpg", photo, 0))
    wait_for_files(page, 2)
    expect(told).to_have_text("")


def test_samples(page, photo):
    """They join what is there, each once."""
    page.set_input_files("#pictures input[type=file]", [str(photo)])
    wait_for_files(page, 1)
    for sample, count in ((0, 2), (1, 3), (0, 3)):
        page.locator("#samples button").nth(sample).click()
        wait_for_files(page, count)
    page.get_by_role("button", name="Upscale", exact=True).click()
    wait_until_told(page, "3 of 3 done.")


def test_stop(page, photo, large):
    page.get_by_label("x4").click()
    page.get_by_label("Self-ensemble").click()
    start(page, photo, large)
    wait_until_told(page, "File 2 of 2")
    page.get_by_role("button", name="Stop").click()
    wait_until_told(page, "Stopped after 1 of 2.")
    wait_until_shown(page, 176, 120)
    expect(page.get_by_role("button", name="Download")).to_be_enabled()
    page.wait_for_timeout(1000)
    assert "Stopped after 1 of 2." in page.locator("#status").inner_text()
    # The network is free again: it is not this one that computes on in secret.
    page.get_by_role("button", name="Upscale", exact=True).click()
    wait_until_told(page, "File 2 of 2")
    page.get_by_role("button", name="Stop").click()
    wait_until_told(page, "Stopped after 1 of 2.")


def test_without_a_picture(page, photo):
    """What is there from before stays."""
    start(page, photo)
    wait_until_told(page, "Done.")
    wait_until_shown(page, 88, 60)
    page.get_by_label("Clear").first.click()
    wait_for_files(page, 0)
    page.get_by_role("button", name="Upscale", exact=True).click()
    toast = page.get_by_test_id("toast-body")
    toast.wait_for()
    expect(toast).to_contain_text("Choose a picture first.")
    page.get_by_role("button", name="Upscale", exact=True).click(trial=True)
    wait_until_shown(page, 88, 60)
    expect(page.get_by_role("button", name="Download")).to_be_enabled()


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_window(page, photo, text, width):
    page.set_viewport_size({"width": width, "height": 900})
    long = photo.rename(photo.with_name("a-very-long-name-without-any-room-to-break-it-" * 3 + ".jpg"))
    start(page, long, text)
    wait_until_told(page, "1 of 2 done.")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
