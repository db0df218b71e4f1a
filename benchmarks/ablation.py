"""What each idea of AdderSR is worth: one training a row and seed, all with equal data, steps and schedule.

    python benchmarks/ablation.py --train-dirs PICTURES MORE --holdout '*0.*' --data SETS --set Set5 Set14 \\
        --runs FOLDER --steps 5000

Each training is `addersr fit` in a process of its own, in FOLDER/ROW/seedN; its weights and scores go to
FOLDER/ROW/seedN.safetensors and .json. What is there is not done again, and a training that was interrupted (Ctrl-C,
SIGTERM, or killed) goes on from its last checkpoint: run the same command again. Several calls may work in one FOLDER
at once, on different rows or seeds. Scored are the averaged weights of the last step, by the functions and the default
protocol of `addersr bench`: nothing is chosen by the sets. The curve is of PSNR on the pictures held out.

After each training, FOLDER/ablation.json (each seed's scores and curve), ablation.md (a table of means and standard
deviations over the seeds) and ablation.png (PSNR over steps, and where each seed ends) are made of all that FOLDER has.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ablation_report
import measure
from ablation_report import write_json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from addersr import checkpoint
from addersr.errors import AdderSRError
from addersr.evaluation.benchmark import Model, score_set, upscale_by
from addersr.evaluation.protocol import DEFAULT, PROTOCOLS
from addersr.evaluation.sets import PictureFiles, find_pictures
from addersr.inference import options
from addersr.inference.upscaler import Upscaler
from addersr.models import build
from addersr.models.quantized import parameter_count
from addersr.training.export import convert
from addersr.training.reading import read_checkpoint

Options = dict[str, Any]
"""Options of addersr fit, by name without the dashes; values as YAML has them."""

CONVOLUTIONS = {"unit": "conv", "residual_scaling": 1.0, "box_cox": False}
BARE = {"shortcut": "none", "power": False, "box_cox": False}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    overrides: Options = field(default_factory=dict)
    """Arguments of the network that differ from the preset's, which is the complete one."""
    options: Options = field(default_factory=dict)
    """Further options of addersr fit."""


ROWS = {
    "twin": Row("convolutional twin", CONVOLUTIONS),
    "twin_box_cox": Row("the twin + Box-Cox high-pass stage", CONVOLUTIONS | {"box_cox": True}),
    "adder": Row("adder alone (with BatchNorm and ReLU)", BARE),
    "shortcut_fixed": Row("+ shortcut, fixed", BARE | {"shortcut": "fixed"}),
    "shortcut": Row("+ shortcut, learnable", BARE | {"shortcut": "learnable"}),
    "power": Row("+ power activation", {"box_cox": False}),
    "box_cox": Row("+ Box-Cox high-pass stage: complete, Adam"),
    "conv_upsampler": Row("complete, upsampler of convolutions", {"upsampler": "conv"}),
    "local_rate": Row(
        "complete, adaptive local rate for filters in place of Adam's", options={"model.adaptive_eta": 1.0}
    ),
    "sgd": Row(
        "complete, SGD with adaptive local rate, as AdderNet",
        options={
            "model.optimizer": "sgd",
            "model.learning_rate": 0.1,
            "model.adder_rate": 1.0,
            "model.adaptive_eta": 0.2,
        },
    ),
}


def main() -> None:
    rows = "\n".join(f"  {name:<15} {row.what}" for name, row in ROWS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nrows:\n{rows}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args()
    try:
        run(args)
    except AdderSRError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {args.runs} cannot be written: {error.strerror}; choose another --runs")
    except KeyboardInterrupt:
        sys.exit("error: stopped; the same command goes on from here")


def option(text: str) -> tuple[str, str]:
    """OPTION=VALUE, for argparse's `type`."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"must be OPTION=VALUE, got {text!r}")
    return name, value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    number = options.whole_number
    parser.add_argument("--runs", type=Path, required=True, metavar="FOLDER", help="where all of it goes")
    parser.add_argument(
        "--train-dirs", nargs="+", required=True, metavar="DIR", help="folders of HR pictures"
    )
    parser.add_argument(
        "--holdout", nargs="+", default=["*0.*"], metavar="PATTERN",
        help="pictures of theirs, FOLDER/FILE, to draw the curve by and not to train on (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, metavar="SETS", help="as for addersr bench")
    parser.add_argument("--set", dest="sets", nargs="+", default=["Set5", "Set14"], metavar="NAME")
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="default: all"
    )
    parser.add_argument("--preset", default="edsr_small_x2", help="of each network (default: %(default)s)")
    parser.add_argument("--steps", type=number, default=5000, help="of each training (default: %(default)s)")
    parser.add_argument(
        "--seeds", nargs="+", type=lambda text: number(text, least=0), default=[0, 1, 2], metavar="N"
    )
    parser.add_argument("--patch", type=number, default=32, help="side in LR pixels (default: %(default)s)")
    parser.add_argument("--batch", type=number, default=16, help="patches a step (default: %(default)s)")
    parser.add_argument(
        "--every", type=number, default=250, help="steps between points of the curve (default: %(default)s)"
    )
    parser.add_argument(
        "--val-pictures", type=number, default=20, help="for the curve (default: %(default)s)"
    )
    parser.add_argument("--cache", metavar="DIR", help="as --data.cache_dir (default: FOLDER/cache)")
    parser.add_argument("--threads", type=number, help="a training's (default: as torch chooses)")
    parser.add_argument(
        "--fit", nargs="+", type=option, default=[], metavar="OPTION=VALUE",
        help="options of addersr fit for all rows alike, such as trainer.accelerator=gpu",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Do the trainings that are not done yet, seed by seed, and write what all of them gave.

    Raises:
        AdderSRError: what is given cannot be used, or, when all others are done, some trainings failed.
    """
    # What can be wrong is found out before the hours that the trainings take.
    measure.need_matplotlib()
    for folder in args.train_dirs:
        if not Path(folder).is_dir():
            raise AdderSRError(f"there is no folder {folder}; give folders of pictures with --train-dirs")
    for name in args.rows:
        try:
            build(args.preset, **ROWS[name].overrides)
        except (TypeError, ValueError) as error:
            raise AdderSRError(f"--preset {args.preset} does not have row {name}: {error}") from error
    sets = {name: find_pictures(args.data, name, build(args.preset).scale) for name in args.sets}
    shared = shared_options(args)
    args.runs.mkdir(parents=True, exist_ok=True)
    same_as_before(args.runs / "recipe.json", describe(shared))
    failed = []
    for seed in args.seeds:
        for name in args.rows:
            try:
                do(args, name, seed, shared, sets)
            except AdderSRError as error:  # such as a training that diverged: the other rows have their worth
                print(f"{name}, seed {seed}: {error}", file=sys.stderr, flush=True)
                failed.append(f"{name}, seed {seed}")
            write(args.runs, describe(shared))
    if failed:
        raise AdderSRError(f"{len(failed)} trainings failed, as said above: {'; '.join(failed)}")


def do(
    args: argparse.Namespace, name: str, seed: int, shared: Options, sets: dict[str, list[PictureFiles]]
) -> None:
    """One training and its scores, or what is missing of them.

    Raises:
        AdderSRError: it failed, or its folder has results of another recipe for this row.
    """
    folder = args.runs / name / f"seed{seed}"
    result, own = folder.with_suffix(".json"), row_options(name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    same_as_before(folder / "recipe.json", own)
    if result.exists():
        print(f"{name}, seed {seed}: done before", flush=True)
        return
    print(f"{name}, seed {seed}: {ROWS[name].what}", flush=True)
    last = folder / "checkpoints" / "last.ckpt"
    if not last.exists() or read_checkpoint(last)["global_step"] < args.steps:
        fit(shared | own | {"run_dir": str(folder)}, last, args.threads)
    scores = score(last, folder.with_suffix(".safetensors"), sets)
    write_json(result, {"row": name, "seed": seed, "recipe": own, "curve": curve(folder)} | scores)


def shared_options(args: argparse.Namespace) -> Options:
    """The options of addersr fit that all rows have alike."""
    common: Options = {
        "model.preset": args.preset,
        "data.train_dirs": args.train_dirs,
        "data.val_dirs": [],
        "data.holdout": args.holdout,
        "data.val_pictures": args.val_pictures,
        "data.patch": args.patch,
        "data.batch_size": args.batch,
        "data.cache_dir": args.cache or str(args.runs / "cache"),
        "trainer.max_steps": args.steps,
        "trainer.val_check_interval": min(args.every, args.steps),
        "pictures.count": 0,
        "progress.refresh_rate": 100,
    }
    return common | dict(args.fit)


def row_options(name: str, seed: int) -> Options:
    """The options of addersr fit that a training has for itself."""
    row = ROWS[name]
    overrides = {"model.overrides": row.overrides} if row.overrides else {}
    return {"seed_everything": seed, "data.seed": seed, **overrides, **row.options}


def describe(shared: Options) -> Options:
    """What decides the result: folders by their names, as where they lie on a machine does not."""
    folders = [Path(folder).resolve().name for folder in shared["data.train_dirs"]]
    left_out = ("data.cache_dir", "pictures.count", "progress.refresh_rate")
    return {key: value for key, value in shared.items() if key not in left_out} | {"data.train_dirs": folders}


def same_as_before(path: Path, recipe: Options) -> None:
    """Write a recipe beside its results, or see that they have been made by it.

    Raises:
        AdderSRError: they have been made by another.
    """
    made = any(path.parent.rglob("seed*.json")) or any(path.parent.rglob("last.ckpt"))
    if not path.exists() or not (made or path.parent.with_suffix(".json").exists()):
        write_json(path, recipe)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(recipe))
    if differ := sorted(key for key in before.keys() | wanted.keys() if before.get(key) != wanted.get(key)):
        key = differ[0]
        raise AdderSRError(
            f"{path.parent} has results of another recipe: {key} was {before.get(key)!r} and is "
            f"{wanted.get(key)!r}; choose another --runs"
        )


def fit(chosen: Options, last: Path, threads: int | None) -> None:
    """Run `addersr fit`, from the checkpoint `last` on where there is one; what it prints goes to fit.log.

    Raises:
        AdderSRError: it failed.
        KeyboardInterrupt: told to stop by a signal, it has saved its state and ended; or, told twice, was killed.
    """
    if last.exists():
        chosen = chosen | {"ckpt_path": str(last)}
    # -P: the package that is installed, as here, and not a source tree that this is called from
    words = [sys.executable, "-P", "-m", "addersr.cli", "fit"]
    words += [f"--{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in chosen.items()]
    env = dict(os.environ) | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    log = Path(chosen["run_dir"], "fit.log")
    told = 0
    child: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        nonlocal told
        told += 1
        if told == 1:
            print("stopping after this step; press Ctrl-C again to stop at once", file=sys.stderr)
        if child is not None:
            child.terminate() if told == 1 else child.kill()

    # What ends this process by default, unless whoever started it has it ignored, as shells do in their background.
    numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    before = {n: signal.signal(n, stop) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    try:
        with log.open("a", encoding="utf-8") as output:
            # In a session of its own, so that Ctrl-C reaches this process alone, which passes it on.
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
            )
        if told:
            child.terminate()
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told:
        raise KeyboardInterrupt
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        reason = next((line for line in reversed(lines) if line.strip()), f"exit code {code}")
        raise AdderSRError(f"addersr fit failed: {reason.strip()} (all of it is in {log})")


def score(last: Path, weights: Path, sets: dict[str, list[PictureFiles]]) -> dict[str, Any]:
    """Export the averaged weights and score them."""
    model, card = convert(read_checkpoint(last))
    checkpoint.save(weights, model, card)
    loaded = checkpoint.load(weights).model
    candidate = Model(weights.stem, loaded.scale, upscale_by(Upscaler(loaded)), parameter_count(loaded))
    protocol = PROTOCOLS[DEFAULT]
    results = {name: score_set([candidate], of, protocol, name=name)[0] for name, of in sets.items()}
    return {
        "parameters": candidate.parameters,
        "protocol": protocol.describe(),
        "sets": {name: {"psnr": result.psnr, "ssim": result.ssim} for name, result in results.items()},
    }


def curve(folder: Path) -> list[tuple[int, float]]:
    """(step, PSNR on the pictures held out) of a run, from its TensorBoard files."""
    events = EventAccumulator(str(folder))
    events.Reload()
    # Lightning counts the step that a validation follows from 0. One that an interrupted run did twice counts once.
    points = {event.step + 1: event.value for event in events.Scalars("val/psnr")}
    return sorted(points.items())


def write(runs: Path, shared: Options) -> None:
    """ablation.json, ablation.md and ablation.png of all results in the folder."""
    rows = {}
    for name, row in ROWS.items():
        paths = sorted((runs / name).glob("seed*.json"))
        if results := [json.loads(path.read_text(encoding="utf-8")) for path in paths]:
            rows[name] = {
                "what": row.what,
                "parameters": results[0]["parameters"],
                "options": {"model.overrides": row.overrides, **row.options},
                "seeds": [ablation_report.of_seed(result) for result in results],
            }
    if rows:
        ablation_report.write(runs, {"recipe": shared, "protocol": DEFAULT, "rows": rows})


if __name__ == "__main__":
    main()
