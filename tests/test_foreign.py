"""Models from elsewhere in the commands: evaluated, continued, trained on."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from cli.identity import sha256
from cli.trained import load_trained
from commands import TINY, command_here, write_text
from foreign_folder import LENGTH, write_llama, write_model
from saved_models import save

TEXT = ("data=text", "data.path=text.txt")
GPT2 = {"position": "learned", "norm": "layer", "mlp": "gelu-tanh"}
FEW = ("passages=6", "target_tokens=8", "lengths=[32,128]", "methods=[none,yarn,rerope,crop]")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("foreign")
    write_text(home / "text.txt", lines=300)
    write_llama(home / "llama")
    return home


def evaluated(home: Path, *arguments: str) -> tuple[str, dict]:
    """What is printed of an evaluation, and its result."""
    done = command_here("evaluate.py", *arguments, cwd=home)
    assert done.returncode == 0, done.stderr
    directory = home / done.stdout.splitlines()[-1].removeprefix("results: ")
    return done.stdout, json.loads((directory / "extrapolation.json").read_text())


def test_the_whole_of_a_text_is_scored_by_tokens_and_by_bytes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("files.draw_all", "tensorboard.log_figures"):
        monkeypatch.setattr(f"evaluation.report.{name}", lambda *_: None)
    before = sorted((home / "llama").iterdir())
    measures = ("measures=[loss,passkey]", "trials=11")
    out, result = evaluated(home, "checkpoint=llama", *TEXT, *FEW, *measures)
    assert result["train_length"] == LENGTH and result["checkpoints"] == ["llama"]
    (directory,) = (home / "evaluations/llama").iterdir()
    known = json.loads((directory / "cells.jsonl").read_text().splitlines()[0])
    assert known["split"] == "all" and known["checkpoints"][0]["step"] is None
    assert sorted((home / "llama").iterdir()) == before  # it may be the Hub's cache
    titles = ("Bits per byte of the same text", "Nats per token of the same text", "passkey: ")
    assert all(title in out for title in titles) and "plain words" in out
    protocol, figures = result["protocol"], result["methods"]["none"]
    size = protocol["target_bytes"] / (protocol["passages"] * protocol["target_tokens"])
    assert 1 < size < 4 and f"a token is {size:.2f} bytes" in out
    bits = figures["nll"][0] / size / torch.log(torch.tensor(2.0)).item()
    assert figures["bpb"][0] == pytest.approx(bits)
    assert set(result["setting"]) == {"length", "best", "method", "rope_parameters"}


@pytest.mark.slow
def test_all_of_a_text_is_one_document_and_a_tenth_of_it_is_held_out(home: Path) -> None:
    save(home / "own", 0)
    few = ("passages=1", "target_tokens=8", "methods=[none]", "lengths=[7000]", *TEXT)
    done = command_here("evaluate.py", "checkpoint=own", *few, cwd=home)
    assert done.returncode == 2 and "longer than the text" in done.stderr
    _, result = evaluated(home, "checkpoint=own", *few, "split=all")
    assert result["lengths"] == [7000] and result["setting"] is None


def test_it_is_known_by_its_config_its_tokenizer_and_its_weights(
    home: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(home / "llama", tmp_path / "other")
    assert sha256(other) == sha256(home / "llama")
    (other / "README.md").write_text("a word")
    assert sha256(other) == sha256(home / "llama")
    for name in ("model.safetensors", "tokenizer.json"):  # what a text begins with is said there
        content = (other / name).read_bytes()
        (other / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert sha256(other) != sha256(home / "llama")
        (other / name).write_bytes(content)


@pytest.mark.slow
def test_it_is_trained_on_and_what_came_of_it_is_measured_beside_it(home: Path) -> None:
    tiny = [word for word in TINY if not word.startswith("model.")]
    few = ("trainer.max_steps=2", "callbacks=none", "logger=none", "data.path=text.txt")
    longer = ("scaling=yarn", "scaling.factor=2", "run_dir=runs/longer", "trainer.accelerator=cpu")
    one = ("evaluation.methods=[none]", "evaluation.lengths=[32]", "optimizer.warmup_steps=1")
    done = command_here("train.py", "init_from=llama", *tiny, *few, *longer, *one, cwd=home)
    assert done.returncode == 0, done.stderr
    assert f"init_from=llama: scaling.train_length={LENGTH}, as there" in done.stdout
    there, here = (
        load_trained(str(home / name), torch.device("cpu")) for name in ("llama", "runs/longer")
    )
    assert here.tokenizer.state() == there.tokenizer.state()
    assert here.model.config.vocab_size == there.model.config.vocab_size > 320
    assert here.model.config.scaling.method == "yarn" and not here.model.config.interleaved
    difference = (here.model.embedding.weight - there.model.embedding.weight).abs().max()
    assert 0 < difference < 0.01
    go_on = command_here("train.py", "resume=runs/longer", "trainer.max_steps=3", cwd=home)
    assert go_on.returncode == 0, go_on.stderr
    both = "checkpoint=[llama,runs/longer]"
    done = command_here(
        "evaluate.py",
        both,
        "as=columns",
        *TEXT,
        *FEW[:3],
        "methods=[none]",
        "output_dir=both",
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    assert list(json.loads((home / "both/models.json").read_text())) == ["llama", "longer"]


@pytest.mark.parametrize(
    ("fields", "typed", "message"),
    [
        (GPT2, "data.seq_len=16", "give data.seq_len=32"),
        ({"tied_head": False}, "model.tied_head=true", "give model.tied_head=false"),
    ],
)
def test_what_init_from_cannot_load_is_said_with_what_works(
    fields: dict, typed: str, message: str, home: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "model", **fields)
    (tmp_path / "text.txt").symlink_to(home / "text.txt")
    few = ("data.path=text.txt", "data.seq_len=32", "trainer.accelerator=cpu", typed)
    done = command_here("train.py", "init_from=model", "data=text", *few, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr, done
    assert not (tmp_path / "runs").exists()


def test_it_continues_a_prompt(home: Path) -> None:
    asked = ("prompt=line 1", "max_new_tokens=3", "seed=1")
    done = command_here("generate.py", "checkpoint=llama", *asked, cwd=home)
    assert done.returncode == 0 and done.stdout.startswith("line 1"), done.stderr
