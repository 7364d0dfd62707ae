"""Runs with subwords: trained, resumed, evaluated and generated from, and their bits per byte."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from commands import command_here, some, write_text
from data import TextDataModule, tokenizer_from_state
from runs import Killed, assert_same, checkpoint, fit
from subword_models import byte_fallback, word_piece
from training import Run
from training.module import nll

BPE = ("data.tokenizer=bpe", "data.vocab_size=400")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("subwords")
    write_text(home / "text.txt", lines=400)
    (home / "llama").mkdir()
    (home / "llama" / "tokenizer.json").write_text(byte_fallback(), encoding="utf-8")
    (home / "bert.json").write_text(word_piece(), encoding="utf-8")
    return home


@pytest.fixture(autouse=True)
def cache_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_CACHE", str(home / "cache"))


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROPEWALK_CACHE", str(home / "cache"))
        return fit(home, "run", *BPE)


def counted_bpb(run: Run, text: str) -> float:
    """Bits of the whole validation text over its bytes, both counted here."""
    data, net = run.prepared.data, run.prepared.net.eval()
    tokens, length, nats = torch.from_numpy(data.val_tokens_array.astype("int64")), 32, 0.0
    with torch.no_grad():
        for at in range(0, len(tokens) - 1, length):
            window = tokens[at : at + length + 1][None]
            nats += float(nll(net(window[:, :-1]), window[:, 1:], "sum"))
    first = data.tokenizer.token_bytes[tokens[0]] * data.byte_scale  # which nothing predicts
    return nats / math.log(2) / (len(text.encode()) - first)


def held_out(home: Path) -> str:
    text = (home / "text.txt").read_text()
    return text[len(text) * 9 // 10 :]


def test_a_run_of_bpe(run: Run, home: Path) -> None:
    data, contents = run.prepared.data, checkpoint(run.directory)
    identity = contents["ropewalk"]
    assert identity["vocab_size"] == data.vocab_size == 400
    assert contents["state_dict"]["net.embedding.weight"].shape[0] == 400
    tokenizer = tokenizer_from_state(identity["tokenizer"])
    assert identity["fingerprint"]["tokenizer"] == "subword"
    assert identity["fingerprint"]["tokenizer_sha256"] == tokenizer.sha256  # type: ignore[attr-defined]
    assert tokenizer.decode(data.val_documents[0]) == held_out(home)
    kept = (run.directory / "tokenizer.json").read_text()
    assert kept == identity["tokenizer"]["json"]


@pytest.mark.parametrize("tokenizer", some(["llama", "bpe", "bert.json"], default=1))
def test_bits_per_byte_are_of_the_texts_own_bytes(
    run: Run, home: Path, tokenizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if tokenizer != "bpe":
        options = ("data.val_tokens=null", f"data.tokenizer={home / tokenizer}")
        run = fit(home, f"run-{tokenizer}", *options, "trainer.max_steps=2")
    else:
        run = fit(home, "run-bpe", "data.val_tokens=null", *BPE, "trainer.max_steps=2")
    measured = float(run.trainer.callback_metrics["val/bpb"])
    assert measured == pytest.approx(counted_bpb(run, held_out(home)), rel=1e-4)
    if tokenizer != "bpe":
        kept = checkpoint(run.directory)["ropewalk"]["config"]["data"]["tokenizer"]
        assert kept == str(home / tokenizer)
    said = "gives texts back otherwise than they were" in capsys.readouterr().out
    assert said == (tokenizer == "bert.json")
    assert (run.prepared.data.byte_scale == 1) == (tokenizer == "bpe")


@pytest.mark.slow
def test_a_resumed_run_has_its_own_tokenizer(run: Run, home: Path) -> None:
    """Where the file was, there is another one by now."""
    folder = home / "moved"
    shutil.copytree(home / "llama", folder)
    options = (f"data.tokenizer={folder}", "data.val_tokens=65")
    whole = fit(home, "whole", *options)
    with pytest.raises(Killed):
        fit(home, "cut", *options, stop=5)
    (folder / "tokenizer.json").write_text(word_piece(), encoding="utf-8")
    fit(home, "cut", f"resume={home / 'cut'}")
    assert_same(checkpoint(home / "cut"), checkpoint(whole.directory))


def test_the_runs_tokenizer_is_taken_by_another(run: Run, home: Path) -> None:
    other = write_text(home / "other.txt", lines=300)
    data = TextDataModule("text", str(other), str(run.directory), seq_len=16)
    data.prepare()
    assert data.tokenizer.state() == run.prepared.data.tokenizer.state()


def test_documents_have_separators(home: Path) -> None:
    folder = home / "documents"
    folder.mkdir()
    for number in range(20):
        write_text(folder / f"{number}.txt", lines=5 + number)
    data = TextDataModule("text", str(folder), "bpe", vocab_size=300, seq_len=16)
    data.prepare()
    tokenizer, texts = data.tokenizer, {file.read_text() for file in folder.iterdir()}
    assert {tokenizer.decode(document) for document in data.val_documents} <= texts
    assert len(data.val_documents) > 1
    train = np.split(data.train_tokens, np.flatnonzero(data.train_tokens == tokenizer.separator))
    assert len(train) + len(data.val_documents) == 20
    assert data.byte_scale == 1


def test_evaluated_and_generated_from(run: Run, home: Path) -> None:
    asked = ("passages=2", "target_tokens=8", "lengths=[32,64]", "methods=[none]")
    done = command_here(
        *("evaluate.py", f"checkpoint={run.directory}", *asked, "output_dir=out", "figures=png"),
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((home / "out" / "extrapolation.json").read_text())
    tokens = run.prepared.data.tokenizer
    target_bytes, method = found["protocol"]["target_bytes"], found["methods"]["none"]
    per_token = target_bytes / 16
    assert 1 < per_token < tokens.token_bytes.max()
    assert method["bpb"][0] == pytest.approx(method["nll"][0] / math.log(2) / per_token)
    asked = ("prompt=line 7: seven and", "max_new_tokens=12", "seed=3")
    done = command_here("generate.py", f"checkpoint={run.directory}", *asked, cwd=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("line 7: seven and")
    assert len(done.stdout) > len("line 7: seven and\n")
