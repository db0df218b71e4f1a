import re
from dataclasses import replace
from threading import Event

import numpy as np

from addersr.images import files
from addersr.images.files import Picture
from addersr.page import text
from addersr.page.run import Refused


def test_what_is_told_of_a_result(begin, photo):
    run = begin(photo)
    assert run.wait(60)
    told = text.outcomes(run.outcomes)
    assert "44 x 30 → 88 x 60 px" in told
    assert re.search(r"[0-9.]+ s, [0-9.]+ megapixels/s", told)
    assert re.search(r"about [0-9.e-]+ mJ of arithmetic; its convolutional twin [0-9.e-]+ mJ", told)
    assert "Done." in text.summary(run)
    data = text.as_data(run.outcomes[0])
    assert data["error"] is None and data["result"] == "holiday_x2.jpg"
    assert data["twin_energy_mj"] > data["energy_mj"] > 0


def test_names_and_reasons_are_escaped():
    told = text.outcomes([Refused("<script>.png", "<b>")])
    assert "<script>" not in told and "&lt;script&gt;.png" in told and "&lt;b&gt;" in told


def test_progress_tells_the_file_and_the_share_of_all(begin, network, executor, photo, tmp_path):
    """The share is that of the pixels."""
    larger = tmp_path / "larger.png"
    files.write(larger, Picture(np.zeros((60, 66, 3), np.uint8)))  # 3 times as many
    told, run = [], begin(photo, larger, start=False)
    hook = network.upscaler.model.head.register_forward_pre_hook(lambda *_: told.append(text.progress(run)))
    run.start(executor)
    assert run.wait(60)
    hook.remove()
    assert "File 1 of 2: <b>holiday.jpg</b> 0%" in told[0] and "width: 0.0%" in told[0]
    assert "File 2 of 2" in told[-1] and "width: 25.0%" in told[-1]


def test_summary_of_a_run_that_was_not_all_good(begin, photo):
    missing = photo.with_name("missing.png")
    run = begin(photo, missing)
    assert run.wait(60)
    assert "1 of 2 done. 1 could not be done, see below." in text.summary(run)


def test_a_run_that_waits_and_is_stopped(begin, executor, photo):
    go = Event()
    executor.submit(go.wait, 60)
    run = begin(photo)
    assert "Waiting for a turn: another is being computed." in text.progress(run, 1)
    assert "Waiting for a turn: 3 are before you." in text.progress(run, 3)
    run.stop()
    assert "Stopped; none was finished." in text.summary(run)
    go.set()


def test_the_twin_s_energy_is_explained_where_it_is_the_lower(begin, photo):
    run = begin(photo)
    assert run.wait(60)
    (done,) = run.outcomes
    assert "power activation" not in text.outcomes([done])
    assert "power activation" in text.outcomes([replace(done, energy_mj=2.0, twin_energy_mj=1.0)])
