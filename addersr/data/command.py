"""`addersr data download`: the published training sets, fetched from their official addresses."""

import argparse
from pathlib import Path

from addersr.data.published import SCALES, SETS
from addersr.errors import DataError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `addersr data`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    download = actions.add_parser(
        "download",
        help="fetch DIV2K or Flickr2K",
        description="Fetch a training set in its published layout; what is there already is not fetched again, and "
        "a broken download goes on where it stopped. Archives are checked (DIV2K by size and SHA-256, Flickr2K by the "
        "MD5 that other projects give, for its authors give none) and removed once they are unpacked. LR pictures may "
        "be left out: training makes them itself, as MATLAB's imresize does to the bit.",
    )
    sets = "; ".join(f"{name}: {data_set.summary}" for name, data_set in SETS.items())
    download.add_argument("name", choices=SETS, metavar="NAME", help=sets)
    download.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="the set's folder (default: data/DIV2K or data/Flickr2K, where the recipes look)",
    )
    lr = download.add_mutually_exclusive_group()
    lr.add_argument(
        "--scale",
        type=int,
        nargs="+",
        choices=SCALES,
        metavar="N",
        help="scales of the LR pictures to fetch: 2, 3, 4 (default: all)",
    )
    lr.add_argument("--hr-only", action="store_true", help="fetch, or of Flickr2K unpack, no LR pictures")


def run(args: argparse.Namespace) -> int:
    """`addersr data download`: prints the folders. Returns the exit code.

    Raises:
        DataError: LR pictures are asked of a set that has none, or as `DataSet.fetch`.
    """
    data_set = SETS[args.name]
    if args.scale and not data_set.has_lr:
        raise DataError(f"{args.name} has no LR pictures; leave out --scale, training makes them")
    scales = () if args.hr_only else args.scale or SCALES
    for folder in data_set.fetch(args.output or Path("data", data_set.folder), scales):
        print(folder)
    return 0
