"""The data module by itself; its work in a run is tested with the training commands."""

import pytest

from addersr.data.module import SuperResolutionData


@pytest.mark.parametrize(
    ("stage", "holdout", "folders"),
    [
        ("fit", [], ["T", "V"]),
        ("validate", [], ["V"]),
        ("validate", ["T/*"], ["T", "V"]),
        ("test", [], ["S"]),
        ("predict", [], []),
    ],
)
def test_only_what_a_command_looks_into_is_fetched(stage, holdout, folders):
    data = SuperResolutionData(["T"], ["V"], ["S"], ["P"], holdout)
    assert data._needed(stage) == folders


def test_the_module_can_be_used_without_a_trainer():
    assert SuperResolutionData(scale=3).scale == 3
