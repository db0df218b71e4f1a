"""The command line of `app.py`."""

import argparse
import socket
from functools import partial
from pathlib import Path

from addersr.errors import UsageError
from addersr.inference import options
from addersr.page.guard import is_loopback
from addersr.page.login import Credentials
from addersr.page.run import MAX_PIXELS

__all__ = ["check_host", "credentials", "host_names", "make_parser"]

_LOOPBACK = "127.0.0.1"


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="app.py",
        description="AdderSR as a page in the browser, on this computer only unless told otherwise.",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="weights to offer; may be given several times (default: all shipped ones)",
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="cpu, cuda, cuda:N or auto (default: auto)"
    )
    parser.add_argument(
        "--host",
        default=_LOOPBACK,
        type=_without_brackets,
        metavar="ADDRESS",
        help="address to listen on (default: %(default)s); another than this computer's own needs --auth, or --no-auth",
    )
    parser.add_argument(
        "--port",
        type=partial(options.whole_number, most=65535),
        metavar="N",
        help="port to listen on (default: the first free from 7860)",
    )
    parser.add_argument(
        "--max-upload",
        type=options.whole_number,
        default=50,
        metavar="MB",
        help="the most of one picture, in megabytes (default: %(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=options.whole_number,
        default=MAX_PIXELS,
        metavar="N",
        help=f"the most pixels of a result, all its frames together (default: {MAX_PIXELS:,})",
    )
    parser.add_argument(
        "--queue",
        type=options.whole_number,
        default=20,
        metavar="N",
        help="how many may wait while one computes; who comes then is told so (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        type=_host_name,
        default=[],
        metavar="NAME",
        help="a name by which the page is called where a proxy passes requests on; may be given several times",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--auth",
        metavar="USER:PASSWORD|@FILE",
        help="ask for a name and password; a file has a pair on each line, and keeps them out of the list of processes",
    )
    who.add_argument(
        "--no-auth", action="store_true", help="let in everybody who can reach --host, and mean it"
    )
    return parser


def check_host(host: str) -> None:
    """Find out whether this computer can listen at an address, at any port.

    Raises:
        UsageError: it cannot.
    """
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise UsageError(
            f"--host {host}: no address of this computer; name one that is, such as {_LOOPBACK}, or 0.0.0.0 for all"
        ) from error


def credentials(args: argparse.Namespace) -> Credentials | None:
    """Who is let in; None: everybody.

    Raises:
        UsageError: pairs that cannot be read, or none where strangers may come.
    """
    if args.auth is None:
        if not (args.no_auth or is_loopback(args.host)):
            raise UsageError(
                f"--host {args.host} can be reached by others; add --auth @FILE, or --no-auth to let in everybody"
            )
        return None
    if not args.auth.startswith("@"):
        return [_pair(args.auth, "--auth")]
    path = Path(args.auth[1:])
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--auth {args.auth}: cannot be read: {error}") from error
    pairs = [_pair(line, f"--auth {args.auth}") for line in lines if line.strip()]
    if not pairs:
        raise UsageError(f"--auth {args.auth}: there is nobody in it; write USER:PASSWORD on a line")
    return pairs


def _without_brackets(host: str) -> str:
    """Of an IPv6 address, for argparse's ``type``."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _host_name(text: str) -> str:
    """As browsers send it, for argparse's ``type``."""
    name = _without_brackets(text).lower()
    if not name or "/" in name or (":" in name and not is_loopback(name) and name.count(":") < 2):
        raise argparse.ArgumentTypeError(
            f"must be the name alone, without https:// and port, such as pictures.example.org, got {text!r}"
        )
    return name


def host_names(args: argparse.Namespace) -> frozenset[str] | None:
    """By which names the page may be called, beside this computer's own; None: by any, because others reach it."""
    if is_loopback(args.host):
        return frozenset(args.allow_host)
    return frozenset({args.host, *args.allow_host}) if args.allow_host else None


def _pair(text: str, where: str) -> tuple[str, str]:
    # Not told what was there instead: it may be a password.
    user, colon, password = text.strip().partition(":")
    if not (user and colon and password):
        raise UsageError(f"{where}: must be USER:PASSWORD, or @FILE with such lines")
    return user, password
