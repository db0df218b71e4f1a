"""The command line. Each command's arguments and work live beside what it commands; here they are only listed.

Exit codes: 0 done, 1 an error or a partial failure, 2 a wrong command line, 130 interrupted (143 by SIGTERM).
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from typing_extensions import override

from addersr import __version__
from addersr.errors import AdderSRError, UsageError
from addersr.telling import tell

COMMANDS = {
    "upscale": ("addersr.inference.command", "enlarge pictures"),
    "bench": ("addersr.evaluation.command", "score models by PSNR and SSIM on benchmark sets"),
    "energy": ("addersr.evaluation.energy_command", "count a network's operations, and the energy they take"),
    "quantize": ("addersr.inference.quantize", "write a model in int8, calibrated on pictures"),
    "export": ("addersr.training.export", "write a model as weights (safetensors) or as an ONNX model"),
    "data": ("addersr.data.command", "fetch the published training sets, DIV2K and Flickr2K"),
    "info": ("addersr.info", "show versions, backends and shipped weights"),
}
"""Command -> (module with add_arguments(parser) and run(args) -> exit code, one line of help)."""

_STANDARD_ERROR = 2

TRAINING = ("fit", "validate", "test", "predict")
"""Handed on to the LightningCLI, `addersr.training.command`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _replace_closed_error()
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal's encoding lacks must not end the work
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if words and words[0] in TRAINING:
            command = importlib.import_module("addersr.training.command")
            return int(command.main(words))
        args, unknown = _parser(words[0] if words else None).parse_known_args(words)
        end = unknown.index("--") if "--" in unknown else len(unknown)
        if hasattr(args, "inputs") and not any(map(_is_option, unknown[:end])):
            # argparse takes those on one side of the options, and leaves the others
            args.inputs += unknown[:end] + unknown[end + 1 :]
            unknown = []
        if unknown:  # argparse would lead to the help of `addersr`, which does not list the command's options
            named = [word for word in words[:1] if word in COMMANDS]
            _Parser(prog=" ".join(["addersr", *named])).error(f"unrecognized arguments: {' '.join(unknown)}")
        args.words = words  # for a command that starts itself in other processes
        code = int(args.run(args))
        if sys.stdout:
            sys.stdout.flush()  # here, where it is caught that nobody reads it
        return code
    except AdderSRError as error:
        _complain(error)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        tell("addersr: interrupted", sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _complain(error)
        return 1


def _complain(error: object) -> None:
    """Print one line, whatever a file's name brings."""
    tell(f"addersr: error: {error}", sys.stderr)


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _replace_closed_error() -> None:
    """Lead standard error nowhere if the program was started with it closed.

    Else `print` would take standard output in its place, and the next file that is opened its number: then what a C
    library warns of would be written into a picture.
    """
    if sys.stderr:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != _STANDARD_ERROR:
        os.dup2(nowhere, _STANDARD_ERROR)
    sys.stderr = open(_STANDARD_ERROR, "w")  # noqa: SIM115  # for as long as the program runs


class _Parser(argparse.ArgumentParser):
    """Tells a wrong command line in one line too, where argparse would list all options before it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_abbrev = False  # else a misspelt option may be taken for another

    @override
    def error(self, message: str) -> NoReturn:
        _complain(f"{message} (see `{self.prog} --help`)")
        self.exit(2)


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of all commands; only the chosen one's module is imported, which keeps the others' start quick."""
    parser = _Parser(prog="addersr", description="Super-resolution without multiplications.")
    parser.add_argument("--version", action="version", version=f"addersr {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module_name, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    for name in TRAINING:
        commands.add_parser(name, help=f"LightningCLI: {name} (see `addersr {name} --help`)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
