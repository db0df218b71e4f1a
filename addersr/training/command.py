"""``addersr fit | validate | test | predict`` (the console script ``lightning`` is the same): LightningCLI.

A run has one folder (``--run_dir``): ``config.yaml``, ``checkpoints/last.ckpt`` and
``checkpoints/best.ckpt``, ``pictures`` and TensorBoard's files. It is resumed by

    addersr fit -c RUN_DIR/config.yaml --ckpt_path last

where ``last`` stands for RUN_DIR/checkpoints/last.ckpt, or a fresh start if there is none: so that the same command
can be given to a scheduler that runs it again after each interruption. What else is on the command line, or in the
configuration, holds for the rest of the run (`Resume`).
"""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, cast

import lightning.pytorch as pl
from lightning.fabric.utilities import rank_zero_only
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from typing_extensions import override

from addersr.data.lock import locked
from addersr.data.module import SuperResolutionData
from addersr.errors import AdderSRError, CheckpointError
from addersr.telling import tell
from addersr.training.callbacks import (
    BestCheckpoint,
    LastCheckpoint,
    MovingAverage,
    PictureWriter,
)
from addersr.training.finite import Finite
from addersr.training.monitor import Clock, Progress, Scalars
from addersr.training.pictures import ValidationPictures
from addersr.training.reading import read_checkpoint
from addersr.training.resume import Resume
from addersr.training.stopping import Stop, Trainer, stop_after_this_step
from addersr.training.system import SuperResolution


class SaveConfig(SaveConfigCallback):
    """Saves the configuration of ``fit`` in the run's folder; the other commands leave what is there."""

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self.config = self.config.clone()
            self.config["ckpt_path"] = None  # where this run went on from is no part of the recipe
            super().setup(trainer, pl_module, stage)


class Parser(LightningArgumentParser):
    """Tells a wrong command line in one line, where jsonargparse would list hundreds of options before it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_abbrev = False  # else a misspelt option may be taken for another

    @override
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        subparser = getattr(ex, "subcommand_parser", None) or self
        command = subparser.prog.replace(" [options]", "")
        tell(f"addersr: error: {' '.join(message.split())} (see `{command} --help`)", sys.stderr)
        self.exit(2)


class CommandLine(LightningCLI):
    """Lightning's command line with this project's model, data, callbacks and run folder.

    Args:
        args: the words after the program's name.
        held: what a run holds until it ends: the lock of its folder.
    """

    def __init__(self, args: Sequence[str], held: ExitStack) -> None:
        self._chosen = args[0] if args else None
        self._held = held
        super().__init__(
            SuperResolution,
            SuperResolutionData,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},  # a resumed run writes it again
            trainer_class=Trainer,
            parser_class=Parser,
            seed_everything_default=0,
            trainer_defaults={
                # the data are an endless stream: steps count, epochs do not
                "max_epochs": -1,
                "check_val_every_n_epoch": None,
                "val_check_interval": 1000,
                "num_sanity_val_steps": 1,
                # An epoch ends with limit_train_batches alone; the next one goes on in the stream.
                "reload_dataloaders_every_n_epochs": 1,
                "log_every_n_steps": 50,
            },
            parser_kwargs={
                "prog": "addersr",
                "description": "Train super-resolution networks and score them.",
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # our checkpoints hold no constructor arguments
            args=list(args),
        )

    @override
    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static
        # Each one's parser takes a tenth of a second to build.
        known = LightningCLI.subcommands()
        return {name: skipped for name, skipped in known.items() if self._chosen in (name, None)} or known

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run_dir", type=str, default="runs/default", help="the folder of the run")
        for name, callback in (
            ("finite", Finite),
            ("ema", MovingAverage),
            ("last", LastCheckpoint),
            ("best", BestCheckpoint),
            ("pictures", ValidationPictures),
            ("scalars", Scalars),
            ("progress", Progress),
            ("writer", PictureWriter),
            ("stop", Stop),
            ("resume", Resume),
            ("clock", Clock),  # the last, as it says
        ):
            parser.add_lightning_class_args(callback, name)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        # Lightning's own warns that sys.argv is not empty.
        self.config = parser.parse_args(cast("list[str]", args))

    @override
    def _parse_ckpt_path(self) -> None:
        # Lightning reads the checkpoint here for hyper-parameters, which ours do not have; this says what is
        # wrong with the file before anything is built.
        config = self.config[self.config["subcommand"]]
        if config.get("ckpt_path") == "last":
            last = _last(config["run_dir"])
            config["ckpt_path"] = str(last) if last.exists() else None
        if config.get("ckpt_path"):
            read_checkpoint(Path(config["ckpt_path"]))

    @override
    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        if self.subcommand == "predict":
            config["return_predictions"] = False  # they are written; kept in memory they would pile up
        if self.subcommand != "fit" and not config.get("ckpt_path") and not config["model"].get("init_from"):
            raise CheckpointError(
                f"{self.subcommand} needs a trained network: give --ckpt_path (a checkpoint of addersr fit) or "
                "--model.init_from (a safetensors file, or the name of shipped weights)"
            )
        last = _last(config["run_dir"])
        if self.subcommand == "fit" and last.exists() and not config.get("ckpt_path"):
            raise CheckpointError(
                f"{config['run_dir']} holds a run already: resume it with -c {config['run_dir']}/config.yaml "
                "--ckpt_path last, or choose another folder with --run_dir"
            )

    @override
    def after_instantiate_classes(self) -> None:
        if self.subcommand == "fit" and self.trainer.is_global_zero:
            self._lock(Path(self._get(self.config, "run_dir")))
        # At once, and not after hours of preparing the data.
        resumed = bool(self.config[self.subcommand].get("ckpt_path"))
        self.model.read_weights(training=self.subcommand == "fit", resumed=resumed)

    def _lock(self, run_dir: Path) -> None:
        """Keeps other runs out of the folder, by a lock that the system ends with this process."""
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            alone = self._held.enter_context(locked(run_dir / ".lock", f"training in {run_dir}", wait=False))
        except BlockingIOError:
            raise CheckpointError(
                f"another process is training in {run_dir}: wait for its end, or choose another folder with --run_dir"
            ) from None
        except OSError as error:
            raise CheckpointError(
                f"{run_dir} cannot be written to: {error.strerror}; choose another folder with --run_dir"
            ) from error
        if not alone:
            tell(
                f"addersr: {run_dir} cannot be locked here; see that no other process trains in it",
                sys.stderr,
            )

    @override
    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        run_dir = self._get(self.config, "run_dir")
        if self._get(self.config_init, "trainer").logger in (None, True):
            # Only training adds to the run's folder.
            kwargs["logger"] = (
                TensorBoardLogger(run_dir, name="", version="") if self.subcommand == "fit" else False
            )
        return super().instantiate_trainer(default_root_dir=run_dir, **kwargs)


def _last(run_dir: str) -> Path:
    return Path(run_dir, "checkpoints", "last.ckpt")


def keep_memory() -> None:
    """Tells glibc's malloc to keep the memory of large tensors and not to give it back to the system.

    By default every large temporary is mapped and unmapped anew, and each of its pages faults when first
    touched. On a virtual machine that made a training step seven times as long. The environment variables
    MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ and MALLOC_TOP_PAD_ do the same, if set before the start.
    Where the C library is another, this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    # older glibc refuses a threshold above 32 MiB
    if not mallopt(mmap_threshold, 1 << 30):
        mallopt(mmap_threshold, 32 << 20)
    mallopt(trim_threshold, (1 << 31) - 1)
    mallopt(top_pad, 64 << 20)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    """False for Lightning's tip at each start to install its makers' logger, which sends the run to a service."""
    return "litlogger" not in record.getMessage()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line such as ``["fit", "-c", "configs/edsr_adder_small_x2.yaml"]``.

    Returns:
        The exit code: 0, or 143 when it was told to stop and has ended as it should.

    Raises:
        AdderSRError: what a user can act on.
        KeyboardInterrupt: Ctrl-C outside of training, or a second one; temporary files have been removed.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    keep_memory()
    # Batches take a few milliseconds, so that more workers would only take cores from the network.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # It is not empty when a run is resumed; a new run is refused a folder that holds another.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    # Lightning 2.6 asks for a class in the way that torch has replaced since; nothing a user can act on.
    warnings.filterwarnings(
        "ignore",
        message=r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        category=FutureWarning,
        module=r"lightning\.pytorch\.utilities\._pytree",
    )
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    previous = signal.getsignal(signal.SIGINT)
    if args[:1] == ["fit"]:
        signal.signal(signal.SIGINT, stop_after_this_step)
    try:
        with ExitStack() as held:
            CommandLine(args, held)
    except SIGTERMException:
        # The first of several processes tells (`LastCheckpoint`); at another code Lightning would kill it meanwhile.
        return 0 if getattr(rank_zero_only, "rank", 0) else 143
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning turns it into exit code 1
            raise KeyboardInterrupt from None
        raise
    except MisconfigurationException as error:
        raise AdderSRError(" ".join(str(error).split())) from error
    finally:
        signal.signal(signal.SIGINT, previous)
    return 0
