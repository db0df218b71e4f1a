"""What several tests of the operation share."""

import pytest

from addersr.ops import unavailable_reason


@pytest.fixture(params=["reference", "native"])
def backend(request: pytest.FixtureRequest) -> str:
    reason = unavailable_reason(request.param)
    if reason:
        pytest.skip(f"backend {request.param}: {reason}")
    return request.param
