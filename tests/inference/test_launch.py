"""How many processes do a batch, from the options and from what launchers set."""

import pytest

from addersr.errors import UsageError
from addersr.inference.launch import Processes, processes

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "0"}
SLURM = {"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "3", "SLURM_JOB_NAME": "larger",
         "SLURM_STEP_ID": "0"}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ((None, None), {}, None),
        ((1, 1), {}, None),
        ((4, None), {}, Processes(4, 1, False)),
        ((None, 2), {}, Processes(1, 2, False)),
        ((4, 2), {"LOCAL_RANK": "3"}, Processes(4, 2, True)),
        ((None, None), TORCHRUN, Processes(4, 2, True)),
        ((4, 2), TORCHRUN, Processes(4, 2, True)),
        ((None, None), TORCHRUN | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, None),
        ((None, None), SLURM, Processes(2, 3, True)),
        ((None, None), TORCHRUN | SLURM, Processes(4, 2, True)),  # as Lightning chooses
        ((None, None), SLURM | {"SLURM_JOB_NAME": "bash"}, None),
        ((4, None), {"SLURM_NTASKS": "1"}, Processes(4, 1, False)),
    ],
)
def test_how_many(options, environment, expected):
    assert processes(*options, environment) == expected


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        ((2, None), TORCHRUN, "torchrun has started 4 processes on each of 2 machines"),
        ((None, 2), SLURM, "srun has started 2 processes on each of 3 machines"),
        ((None, None), {"SLURM_NTASKS": "6"}, "give --ntasks-per-node"),
        ((None, None), {name: SLURM[name] for name in SLURM if name != "SLURM_STEP_ID"}, "write srun before"),
    ],
)
def test_what_does_not_agree_is_refused(options, environment, message):
    with pytest.raises(UsageError, match=message):
        processes(*options, environment)
