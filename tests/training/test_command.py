"""The training commands as a user runs them, on pictures of a few pixels."""

from functools import partial

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from addersr import checkpoint
from addersr.cli import main as addersr
from addersr.errors import ImageError
from addersr.training.command import CommandLine, main
from addersr.training.system import RECORD

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)


def test_fit_leaves_checkpoints_a_configuration_and_tensorboards_files(command, tmp_path, data, last):
    assert command("fit", "--trainer.max_steps", 4, "--trainer.log_every_n_steps", 1) == 0
    run = tmp_path / "run"
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert (run / "config.yaml").is_file()

    record = last()[RECORD]
    assert record["steps"] == 4 and record["preset"] == "edsr_tiny_x2" and record["config"]["channels"] == 8
    assert record["data"]["train"] == {"train": 4} and record["data"]["validation"] == [
        "val/0000",
        "val/0001",
    ]
    assert record["recipe"]["adder_rate"] == 160

    events = EventAccumulator(str(run))
    events.Reload()
    scalars = {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert len(scalars["train/loss"]) == len(scalars["train/learning_rate/rest"]) == 4
    assert scalars["val/psnr"] == [1, 3]  # Lightning counts the steps of a plot from 0
    assert len(scalars["learned/alpha/body.0.first"]) == 4
    assert events.Tags()["images"] == ["pictures/val/0000", "pictures/val/0001"]


@pytest.mark.parametrize(
    ("words", "built"),
    [
        (["fit", "--help"], ["fit"]),
        (["test", "--help"], ["test"]),
        (["--help"], ["fit", "validate", "test", "predict"]),
        (["fitt"], ["fit", "validate", "test", "predict"]),
    ],
)
def test_only_the_chosen_commands_options_are_built(monkeypatch, capsys, words, built):
    names = []
    prepare = CommandLine._prepare_subcommand_parser

    def prepared(line, klass, subcommand, **options):
        names.append(subcommand)
        return prepare(line, klass, subcommand, **options)

    monkeypatch.setattr(CommandLine, "_prepare_subcommand_parser", prepared)
    with pytest.raises(SystemExit):
        main(words)
    assert names == built
    assert built[-1] in "".join(capsys.readouterr())


def test_lightning_says_what_it_found_and_advertises_nothing(command, said):
    assert command("fit", "--trainer.max_steps", 1) == 0
    assert "GPU available" in said.text
    assert "install" not in said.text


def test_the_saved_configuration_resumes_the_run(command, tmp_path, last):
    assert command("fit", "--trainer.max_steps", 2) == 0
    run = tmp_path / "run"
    words = ["fit", "-c", f"{run}/config.yaml", "--ckpt_path", f"{run}/checkpoints/last.ckpt"]
    assert addersr([*words, "--trainer.max_steps", "3"]) == 0
    assert last()["global_step"] == 3
    assert "ckpt_path: null" in (run / "config.yaml").read_text()


def test_export_writes_the_averaged_weights_with_their_card(command, tmp_path, capsys, last):
    assert command("fit", "--trainer.max_steps", 2) == 0
    path, weights = tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "w.safetensors"
    words = ["export", str(path), "-o", str(weights), "--card", "licence=CC BY", "--card", "psnr=[1, 2]"]
    assert addersr(words) == 0
    assert "averaged weights of step 2" in capsys.readouterr().out
    loaded = checkpoint.load(weights)
    averaged = {k.removeprefix("model."): v for k, v in last()["state_dict"].items()}
    assert_equal(loaded.model.state_dict(), averaged)
    card = loaded.metadata
    assert card["steps"] == 2 and card["preset"] == "edsr_tiny_x2" and card["averaged"] is True
    assert card["data"]["train"] == {"train": 4} and card["recipe"]["loss"] == "L1"
    assert card["licence"] == "CC BY" and card["psnr"] == [1, 2]


def test_validate_test_and_predict_take_a_checkpoint(command, tmp_path, data, capsys):
    assert command("fit", "--trainer.max_steps", 2) == 0
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    assert command("validate", "--ckpt_path", best) == 0
    assert "val/psnr" in capsys.readouterr().out
    assert command("test", "--ckpt_path", best, "--data.test_dirs", f"[{data / 'val'}]") == 0
    assert "test/ssim" in capsys.readouterr().out
    words = ("--data.predict_dirs", f"[{data / 'lr'}]", "--writer.folder", tmp_path / "out")
    assert command("predict", "--ckpt_path", best, *words) == 0
    with Image.open(tmp_path / "out" / "lr" / "0000.png") as picture:
        assert picture.size == (96, 72)
    with pytest.raises(ImageError, match=r"0000\.png is there already.*--writer\.folder"):
        command("predict", "--ckpt_path", best, *words)
    with pytest.raises(ImageError, match=r"best\.ckpt is a file; choose a folder with --writer\.folder"):
        command("predict", "--ckpt_path", best, *words[:2], "--writer.folder", best)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before


def test_predictions_of_one_name_are_kept_apart_or_refused(command, tmp_path, data, weights):
    picture = Image.open(data / "lr" / "0000.png")
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        picture.save(tmp_path / name)
    words = ("--model.init_from", weights, "--data.predict_dirs", f"[{tmp_path / 'a'}, {tmp_path / 'b'}]")
    out = tmp_path / "out"
    assert command("predict", *words, "--writer.folder", out) == 0
    assert {str(p.relative_to(out)) for p in out.rglob("*.png")} == {"a/x.png", "b/x.png"}
    picture.save(tmp_path / "b" / "x.webp")
    with pytest.raises(ImageError, match=r"x\.png and .*x\.webp would both become .*rename"):
        command("predict", *words, "--writer.folder", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_validating_decodes_the_held_out_pictures_alone(command, tmp_path, weights):
    words = (
        "--data.val_dirs",
        "[]",
        "--data.holdout",
        "[train/0001*]",
        "--data.cache_dir",
        tmp_path / "cache",
    )
    assert command("validate", "--model.init_from", weights, *words) == 0
    assert len(list((tmp_path / "cache").iterdir())) == 2  # HR and LR of one


def test_held_out_pictures_are_validated_on_and_not_trained_on(command, last):
    words = ("--data.val_dirs", "[]", "--data.holdout", "[train/0001*]", "--trainer.max_steps", 2)
    assert command("fit", *words) == 0
    described = last()[RECORD]["data"]
    assert described["train"] == {"train": 3} and described["validation"] == ["train/0001"]


def test_a_convolutional_twin_and_another_scale_train(command, last):
    words = ("--model.overrides.unit", "conv", "--model.preset", "edsr_tiny_x3", "--trainer.max_steps", 2)
    assert command("fit", *words) == 0
    config = last()[RECORD]["config"]
    assert config["unit"] == "conv" and config["scale"] == 3
