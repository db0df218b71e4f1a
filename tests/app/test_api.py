"""The running program as programs see it."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError

from addersr import checkpoint
from addersr.images import files
from addersr.images.files import Picture
from addersr.inference.upscaler import Upscaler

CLIENTS = 16


def upscale(client, *pictures, scale=2, self_ensemble=False):
    given = [handle_file(str(picture)) for picture in pictures]
    return client.predict(given, "tiny", scale, "float32", self_ensemble, api_name="/upscale")


def test_results_and_what_became_of_each(client, photo, text):
    results, report = upscale(client, photo, text, scale=3)
    assert [Path(result).name for result in results] == ["holiday_x3.jpg"]
    assert files.read(results[0]).pixels.shape == (90, 132, 3)
    done, refused = report
    assert (done["name"], done["result"], done["size"], done["result_size"]) == (
        "holiday.jpg", "holiday_x3.jpg", [44, 30], [132, 90],
    )  # fmt: skip
    assert done["energy_mj"] < done["twin_energy_mj"]
    assert refused["name"] == "text.png" and "not a PNG" in refused["error"]


def test_an_order_that_is_not_taken(client, photo):
    with pytest.raises(AppError, match="Choose a picture first"):
        upscale(client)
    with pytest.raises(AppError, match="not in the list of choices"):
        client.predict([handle_file(str(photo))], "/etc/passwd", 2, "float32", False, api_name="/upscale")


def test_only_the_upscaling_is_offered(client):
    (offered,) = client.view_api(return_format="dict")["named_endpoints"].items()
    name, described = offered
    assert name == "/upscale"
    names = [parameter["parameter_name"] for parameter in described["parameters"]]
    assert names == ["pictures", "model", "scale", "precision", "self_ensemble"]


def test_sixteen_clients_at_once_each_get_their_own(address, connect, weights, tmp_path, text):
    network = Upscaler(checkpoint.load(weights).model)

    def one(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (20 + number, 24, 3), np.uint8)
        picture = folder / "same name.png"
        files.write(picture, Picture(pixels))
        bad = [text] if number % 2 else []
        (result,), report = upscale(connect(address, folder), *bad, picture)
        assert [each["error"] is None for each in report] == [False] * len(bad) + [True]
        return np.array_equal(files.read(result).pixels, network(pixels))

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert list(pool.map(one, range(CLIENTS))) == [True] * CLIENTS


def test_a_job_that_is_cancelled_makes_way(address, connect, large, photo):
    first, second = connect(address), connect(address)
    given = [handle_file(str(large))]
    job = first.submit(given, "tiny", 4, "float32", True, api_name="/upscale")
    while not job.outputs():  # it computes
        assert not job.done()
    job.cancel()
    results, _ = upscale(second, photo)
    assert len(results) == 1


def wait_for_first(events):
    """Until the first word of an order: it computes, or it is in the queue."""
    assert "event: generating" in events.iter_lines()


def test_the_queue_is_bounded_and_there_is_no_way_past_it(serve, large, photo):
    with (
        serve("--queue", "1") as (address, _),
        httpx.Client(base_url=f"{address}gradio_api/", timeout=300) as server,
    ):
        paths = []
        for picture in (large, photo):
            with picture.open("rb") as file:
                paths += server.post("upload", files={"files": (picture.name, file)}).json()

        def call(path):
            given = {"path": path, "meta": {"_type": "gradio.FileData"}}
            return {"data": [[given], "tiny", 4, "float32", True]}

        first = server.post("call/upscale", json=call(paths[0]))
        assert first.status_code == 200
        with server.stream("GET", f"call/upscale/{first.json()['event_id']}") as events:
            wait_for_first(events)
            second = server.post("call/upscale", json=call(paths[1])).json()
            with server.stream("GET", f"call/upscale/{second['event_id']}") as waits:
                wait_for_first(waits)
                third = server.post("call/upscale", json=call(paths[1])).json()
                full = server.get(f"call/upscale/{third['event_id']}").text
                assert "event: error" in full and "Too many are waiting" in full
            assert server.post("run/upscale", json=call(paths[1])).status_code == 404


def test_files_go_when_the_client_does(client, folder, photo):
    upscale(client, photo)
    there = set(folder.rglob("holiday_x2.jpg"))
    assert there
    client.close()
    deadline = time.monotonic() + 300
    while any(path.exists() for path in there):
        assert time.monotonic() < deadline
        time.sleep(0.1)
