"""The recipes in configs/: each command that they tell parses, and each recipe takes a step at a tiny size."""

import re
import shlex
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
import yaml

from addersr import checkpoint
from addersr.data.module import SuperResolutionData
from addersr.errors import CheckpointError, DataError
from addersr.models import PRESETS, build
from addersr.training.command import CommandLine, Trainer, main
from addersr.training.system import SuperResolution

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(CONFIGS.glob("*.yaml"))
OVERLAYS = {"twin"}
"""Given behind a recipe."""


def commands(path):
    """The command lines in a recipe's comments, the first one its own."""
    text = "\n".join(line.removeprefix("#") for line in path.read_text().splitlines() if line.startswith("#"))
    return [
        shlex.split(line)
        for line in text.replace("\\\n", " ").splitlines()
        if line.split()[:1] == ["addersr"]
    ]


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Weights to start from or to learn from, by the names of their presets and units."""
    folder, files = tmp_path_factory.mktemp("start"), {}
    for name, unit in (("edsr_tiny_x2", "adder"), ("edsr_tiny_x2", "conv"), ("vdsr_tiny_x2", "adder")):
        files[name, unit] = folder / f"{name}_{unit}.safetensors"
        checkpoint.save(files[name, unit], build(name, unit=unit), {})
    return files


@pytest.fixture(scope="session")
def parser():
    """The command line's parser, built once: that takes most of a second."""
    built = []

    def stop(_, parser, args):
        built.append(parser)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CommandLine, "parse_arguments", stop)
        CommandLine(["fit"], ExitStack())
    return built[0]


# `addersr fit` ignores them too, see addersr/training/command.py
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_takes_a_step(path, parser, data, start, monkeypatch):
    """By its own command, but for the size of the network and the pictures."""
    monkeypatch.chdir(CONFIGS.parent)
    program, *words = commands(path)[0]
    assert program == "addersr" and words[0] == "fit" and f"configs/{path.name}" in words
    recipe = parser.parse_args(words).fit
    family, scale = re.fullmatch(r"(edsr|vdsr)(?:_\w+)?_x(\d)", recipe.model.preset).groups()
    assert recipe.model.preset in PRESETS
    recipe.model.preset = f"{family}_tiny_x{scale}"
    if recipe.model.init_from is not None:
        recipe.model.init_from = str(start[f"{family}_tiny_x2", "adder"])
    if recipe.model.teacher is not None:
        recipe.model.teacher = str(start["edsr_tiny_x2", "conv"])
    smaller = {"train_dirs": [str(data / "train")], "val_dirs": [str(data / "val")], "num_workers": 0}
    smaller |= {"cache_dir": str(data / "cache"), "patch": 8, "batch_size": 2}
    trainer = Trainer(
        max_steps=1,
        max_epochs=-1,
        limit_val_batches=0,
        gradient_clip_val=recipe.trainer.gradient_clip_val,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    system = SuperResolution(**recipe.model.as_dict())
    before = {name: tensor.clone() for name, tensor in system.model.named_parameters()}
    trainer.fit(system, SuperResolutionData(**recipe.data.as_dict() | smaller))
    assert trainer.global_step == 1
    assert any(not torch.equal(tensor, before[name]) for name, tensor in system.model.named_parameters())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_command_that_a_recipe_tells_can_be_parsed(path, parser, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    for program, subcommand, *words in commands(path):
        assert program == "addersr" and subcommand in ("fit", "export")
        if subcommand == "fit" and "--ckpt_path" not in words:  # that names a run's own configuration
            assert parser.parse_args([subcommand, *words]).fit.model.preset in PRESETS


def test_names_of_recipes_and_their_runs(monkeypatch):
    """What a command makes, another one finds by its name."""
    contents = {path.stem: yaml.safe_load(path.read_text()) for path in RECIPES}
    assert set(contents) == OVERLAYS | {
        *(f"edsr_adder_{size}_x{s}" for size in ("tiny", "small", "baseline", "large") for s in (2, 3, 4)),
        *(f"vdsr_adder_x{s}" for s in (2, 3, 4)),
        "edsr_adder_small_x2_distilled",
    }
    for name in contents.keys() - OVERLAYS:
        assert contents[name]["run_dir"] == f"runs/{name}"
        given = contents[name]["model"]
        assert given["preset"] == name.replace("_adder", "").removesuffix("_distilled")
        assert ("init_from" in given) == (given["preset"][-2:] in ("x3", "x4"))
        for option in ("init_from", "teacher"):
            exported = [
                words[words.index("-o") + 1]
                for _, word, *words in commands(CONFIGS / f"{name}.yaml")
                if word == "export"
            ]
            assert given.get(option) in (None, "edsr_small_x2", *exported)


def test_without_its_data_a_recipe_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no folder data/DIV2K/DIV2K_train_HR.*--data\.download true"):
        main(["fit", "-c", str(CONFIGS / "edsr_adder_small_x2.yaml"), "--trainer.accelerator", "cpu"])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("model: {presett: edsr_tiny_x2}", "'model.presett'"),
        ("trainer: {max_step: 3}", "'trainer.max_step'"),
        ("modle: {preset: edsr_tiny_x2}", "'modle.preset'"),
        ("data: {patch: large}", "\"data.patch\": Expected a <class 'int'>. Got value: large"),
        (
            "model: {learning_rate: fast}",
            "\"model.learning_rate\": Expected a <class 'float'>. Got value: fast",
        ),
        (
            "model: {optimizer: rmsprop}",
            "\"model.optimizer\": Expected a typing.Literal['adam', 'sgd']. Got value: rmsprop",
        ),
        ("model: [1, 2", "Problems parsing config"),
    ],
)
def test_a_recipe_that_is_wrong_names_the_key_in_one_line(parser, tmp_path, capsys, text, key):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["fit", "-c", str(tmp_path / "recipe.yaml")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("addersr: error: ") and key in line


def test_a_network_that_there_is_not_names_the_key(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: {preset: edsr_huge_x2}")
    with pytest.raises(
        CheckpointError, match=r"--model\.preset: no model is called 'edsr_huge_x2'; there are .*"
    ) as caught:
        main(["fit", "-c", str(tmp_path / "recipe.yaml")])
    assert "\n" not in str(caught.value)
