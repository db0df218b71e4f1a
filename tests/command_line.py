"""`addersr upscale` within the tests' own process."""

import argparse

from addersr.inference import command


def upscale(*words):
    """`addersr upscale` with these words: its exit code."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def contents(folder):
    """Every file below a folder, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
