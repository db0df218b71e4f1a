"""The errors a user can act on.

AdderSRError
├── BackendError      an explicit backend that cannot run
├── CheckpointError   weights that cannot be found, read or do not fit
├── DataError         a data set that is missing, incomplete or damaged
├── ImageError        a picture that cannot be read or written
└── UsageError        a command line whose parts do not go together

Each message is one line: what is wrong, with the offending value, and what to do. The command line prints it
without a traceback and exits with a code other than 0.
"""


class AdderSRError(Exception):
    """Base of all errors that a user can act on."""


class BackendError(AdderSRError):
    """An explicitly chosen backend cannot run the operation."""


class CheckpointError(AdderSRError):
    """Weights cannot be found or read, or do not fit."""


class DataError(AdderSRError):
    """A data set is missing, incomplete or damaged."""


class ImageError(AdderSRError):
    """A picture cannot be read or written."""


class UsageError(AdderSRError):
    """A command line whose parts do not go together; the exit code is 2, as for one that cannot be parsed."""
