"""The models of `addersr bench`: what --model, --precision and --scale ask for, made ready to run."""

import argparse
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from addersr import checkpoint
from addersr.errors import CheckpointError
from addersr.evaluation import weights
from addersr.evaluation.benchmark import BICUBIC, Model, upscale_by
from addersr.inference import options
from addersr.models.quantized import parameter_count

_DEFAULT_SCALE = 2


@dataclass(frozen=True)
class _Candidate:
    word: str
    """That asked for it."""
    loaded: checkpoint.Loaded
    bfloat16: bool

    @property
    def scale(self) -> int:
        """Of its network."""
        return self.loaded.model.scale

    @property
    def key(self) -> tuple[str, bool]:
        """Equal where the results would be: file and bfloat16."""
        return os.path.realpath(self.loaded.path), self.bfloat16


def line_up(args: argparse.Namespace, notes: list[str]) -> dict[int, list[Model]]:
    """The models to score at each scale, bicubic first.

    One rule for scales and precisions: a model that has none of those asked for is an error; one that has some of them
    is left out at the others. That is said in `notes`, and so is what was given twice and is scored once.

    Args:
        args: with the options of `addersr.evaluation.command`.
        notes: gets a line for each thing left out.

    Raises:
        CheckpointError, BackendError: as `checkpoint.load` and `options.make_upscaler`; and as above.
    """
    asked = sorted(set(args.scales or []))
    precisions = list(dict.fromkeys(args.precision or ["auto"]))
    candidates = [
        candidate
        for word in args.models or [None]
        if word != BICUBIC
        for candidate in _candidates(word, asked, precisions, notes)
    ]
    scales = asked or sorted({each.scale for each in candidates}) or [_DEFAULT_SCALE]
    own = defaultdict[str, set[int]](set)
    for each in candidates:
        own[each.word].add(each.scale)
    for word, those in own.items():
        if left_out := set(scales) - those:
            notes.append(f"{word}: only {_listed(those)}, left out at {_listed(left_out)}")

    once: dict[tuple[str, bool], _Candidate] = {}
    for each in candidates:
        if (first := once.setdefault(each.key, each)) is not each:
            notes.append(f"{each.word}: the same weights as {first.word}, scored once")
    notes[:] = dict.fromkeys(notes)  # the same may be so at several scales

    models = {scale: [Model(BICUBIC, scale)] for scale in scales}
    for label, each in zip(_labels(list(once.values())), once.values(), strict=True):
        models[each.scale].append(_model(label, each, args))
    return models


def _candidates(
    word: str | None, asked: Sequence[int], precisions: Sequence[Any], notes: list[str]
) -> list[_Candidate]:
    """What a word stands for, at the scales and in the precisions asked for, as far as it is there.

    Args:
        word: None is the default model.
        asked: scales; none are any.
        precisions: of `checkpoint.load`, different ones.
        notes: as `line_up`.
    """
    if word is None:
        word, names = "the default model", _default_names(asked or [_DEFAULT_SCALE])
    else:
        names = weights.named(word) or [word]  # what is not there is told by `load`
    found = []
    for name in names:
        missing = []
        for precision in precisions:
            try:
                loaded = checkpoint.load(name, precision=precision)
                found.append(_Candidate(word, loaded, precision == "bfloat16"))
            except CheckpointError as error:
                missing.append(error)
        if len(missing) == len(precisions):
            raise missing[0]
        notes += [f"left out: {error}" for error in missing]
    there = {each.scale for each in found}
    if asked and not there & set(asked):
        raise CheckpointError(f"{word} enlarges {_listed(there)}, and --scale asks for {_listed(asked)}")
    return [each for each in found if not asked or each.scale in asked]


def _default_names(scales: Sequence[int]) -> list[str]:
    names = []
    for scale in scales:
        with suppress(CheckpointError):
            names.append(checkpoint.default_name(scale))
    return names or [checkpoint.default_name(scales[0])]  # says that there is none


def _labels(candidates: Sequence[_Candidate]) -> list[str]:
    """Short names that tell all rows apart, at whatever scale; one file may be there in bfloat16, too."""
    files = {each.key[0]: each.loaded.path for each in candidates}
    short = dict(zip(files, weights.labels(list(files.values()), taken=[BICUBIC]), strict=True))
    in_float32 = {path for path, bfloat16 in (each.key for each in candidates) if not bfloat16}
    return [
        short[path] + ", bfloat16" * (bfloat16 and path in in_float32)
        for path, bfloat16 in (each.key for each in candidates)
    ]


def _model(label: str, candidate: _Candidate, args: argparse.Namespace) -> Model:
    precision = "bfloat16" if candidate.bfloat16 else "auto"
    own = argparse.Namespace(**{**vars(args), "precision": precision})
    upscaler = options.make_upscaler(own, candidate.loaded)
    return Model(
        label,
        upscaler.scale,
        upscale_by(upscaler),
        parameter_count(candidate.loaded.model),
        upscaler.precision,
        upscaler.self_ensemble,
        str(upscaler.device),
    )


def _listed(scales: Iterable[int]) -> str:
    return ", ".join(f"x{scale}" for scale in sorted(scales))
