"""What each of two processes does for `test_distributed`: the runs of a JSON file, one after the other.

    python two_processes.py RUNS.json RESULTS.json

RUNS is a list of [what happens to the second process, words of the command line]; RESULTS one of what came of each
run here: the exit code, or the error.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from addersr.errors import AdderSRError
from addersr.training.command import main
from addersr.training.system import SuperResolution

FIRST = os.environ["RANK"] == "0"


def told_to_stop(module, outputs, batch, batch_idx):
    if batch_idx == 1 and not FIRST:
        signal.raise_signal(signal.SIGTERM)


def diverging(module, outputs, batch, batch_idx):
    if batch_idx == 1 and not FIRST:
        with torch.no_grad():
            module.model.body[0].first.adder.weight[0, 0, 0, 0] = torch.nan


def scored(module):
    if not module.trainer.sanity_checking:
        metrics = {name: float(value) for name, value in module.trainer.callback_metrics.items()}
        Path(f"{module.trainer.default_root_dir}.{os.environ['RANK']}.json").write_text(json.dumps(metrics))


HAPPENS = {"nothing": lambda *_: None, "told to stop": told_to_stop, "diverging": diverging}


def result(words):
    try:
        return main(words)
    except AdderSRError as error:
        return str(error)
    except SystemExit as stop:
        return stop.code


results = []
SuperResolution.on_validation_end = scored
for event, line in json.loads(Path(sys.argv[1]).read_text()):
    SuperResolution.on_train_batch_end = HAPPENS[event]
    results.append(result(line))
Path(sys.argv[2]).write_text(json.dumps(results))
