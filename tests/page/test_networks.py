import shutil

import pytest

from addersr import checkpoint
from addersr.errors import BackendError, CheckpointError, UsageError
from addersr.page.networks import AUTO, PRECISIONS, Networks


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    return tmp_path


def ship(shelf, *names, source=None):
    for name in names:
        shutil.copy(source, shelf / f"{name}.safetensors")


def test_all_shipped_networks_are_offered_and_int8_is_a_precision(shelf, weights):
    ship(shelf, "edsr_small_x2", "edsr_small_x2_int8", "edsr_baseline_x4", source=weights)
    networks = Networks()
    assert networks.names == (AUTO, "edsr_baseline_x4", "edsr_small_x2")
    assert networks.precisions("edsr_small_x2") == PRECISIONS
    assert networks.precisions("edsr_baseline_x4") == ("float32", "bfloat16")
    assert networks.precisions(AUTO) == PRECISIONS


def test_the_scale_chooses(shelf, weights):
    ship(shelf, "edsr_small_x2", "edsr_small_x4", source=weights)
    networks = Networks(device="cpu")
    assert [networks.get(AUTO, scale, "float32").name for scale in (2, 4)] == [
        "edsr_small_x2",
        "edsr_small_x4",
    ]


def test_one_network_leaves_nothing_to_choose(networks):
    assert networks.names == ("tiny",)


def test_the_shipped_int8_form_is_run(weights):
    network = Networks(device="cpu").get("edsr_small_x2", 2, "int8")
    assert network.upscaler.precision == "int8"
    assert network.per_pixel.mj < Networks(device="cpu").get("edsr_small_x2", 2, "float32").per_pixel.mj


def test_what_is_ready_is_kept(networks):
    assert networks.get("tiny", 2, "float32") is networks.get("tiny", 4, "float32")
    assert networks.get("tiny", 2, "bfloat16").upscaler.precision == "bfloat16"


def test_what_is_not_on_offer(networks, shelf, weights):
    with pytest.raises(UsageError, match=r"no model is called '/etc/passwd'; there are tiny"):
        networks.get("/etc/passwd", 2, "float32")
    with pytest.raises(UsageError, match="tiny cannot be run in int8; choose float32 or bfloat16"):
        networks.get("tiny", 2, "int8")
    with pytest.raises(CheckpointError, match="no weights are shipped"):
        Networks()
    with pytest.raises(BackendError, match="device 'bananas' cannot be used"):
        Networks([str(weights)], device="bananas")
    with pytest.raises(UsageError, match="another model is called tiny, too"):
        Networks([str(weights), str(weights)])
