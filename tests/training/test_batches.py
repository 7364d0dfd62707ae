"""Runs on packed documents, on mixtures and on windows that grow: trained, cut and resumed."""

import math
from pathlib import Path

import lightning as L
import pytest
import torch

from cli.errors import UserError
from commands import refused
from runs import Killed, assert_same, checkpoint, fit
from training import Run
from training.module import nll

DOCUMENTS = "data.document_mask=true"
GROWING = ("data.warmup_seq_len=8", "data.warmup_steps=6")


@pytest.fixture(scope="module")
def texts(home: Path) -> Path:
    """Beside text.txt a folder of short documents."""
    (home / "docs").mkdir()
    for i in range(40):
        (home / "docs" / f"{i}.txt").write_text(f"document {i}: " + f"{i} and " * (i % 9))
    return home


def options_of(home: Path, kind: str) -> tuple[str, ...]:
    mixed = ("data=mix", "data.path=null", f"data.sources=[{home}/text.txt,{home}/docs]")
    weighted = (*mixed, "data.weights=[0.3,0.7]", "data.seq_len=32", "data.batch_size=4")
    return {
        "documents": (f"data.path={home}/docs", DOCUMENTS),
        "growing": GROWING,
        "mixed": weighted,
        "all": (*weighted, DOCUMENTS, *GROWING),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["all", *(pytest.param(k, marks=pytest.mark.slow) for k in ("documents", "mixed"))]
)
def test_a_run_that_is_cut_and_resumed_is_the_same(texts: Path, kind: str) -> None:
    """At step 3 of 10, amid the windows that grow."""
    options = options_of(texts, kind)
    whole = fit(texts, f"{kind}-whole", *options)
    name = f"{kind}-cut"
    with pytest.raises(Killed):
        fit(texts, name, *options, "checkpoints.every_n_steps=1", stop=3)
    assert checkpoint(texts / name)["global_step"] == 3
    cut = fit(texts, name, *options, f"resume={texts / name}", "checkpoints.every_n_steps=1")
    assert checkpoint(cut.directory)["global_step"] == 10
    assert_same(checkpoint(cut.directory), checkpoint(whole.directory))
    if kind == "all":
        check_validation(whole)


def check_validation(run: Run) -> None:
    """Of each text by itself, document by document; together by weight, not by size."""
    data, net = run.prepared.data, run.module.net.eval()
    losses = {}
    for source in data.sources:
        tokens = source.validation[:65]
        starts = [i for i in range(64) if i % 32 == 0 or tokens[i] == 0]
        nats = 0.0
        for start, end in zip(starts, [*starts[1:], 64], strict=True):
            text = torch.from_numpy(tokens[start : end + 1].astype("int64"))[None]
            with torch.no_grad():
                nats += float(nll(net(text[:, :-1]), text[:, 1:], "sum"))
        losses[source.named.name] = nats / 64
    logged = run.metrics.latest
    assert losses == pytest.approx({name: logged[f"val/loss/{name}"] for name in losses}, abs=1e-5)
    expected = 0.3 * losses["text"] + 0.7 * losses["docs"]
    assert logged["val/loss"] == pytest.approx(expected, abs=1e-5)
    assert abs(expected - sum(losses.values()) / 2) > 1e-3  # which weights tell apart
    assert logged["val/bpb"] == pytest.approx(expected / math.log(2), rel=1e-5)  # bytes


def test_documents_are_not_read_across_in_training(texts: Path) -> None:
    """The same windows and the same weights to begin with; only what attention sees differs."""
    options = (f"data.path={texts}/docs", "trainer.max_steps=2")
    masked, plain = (
        fit(texts, f"mask-{on}", *options, f"data.document_mask={on}") for on in ("true", "false")
    )
    one, other = (run.metrics.latest["train/loss"] for run in (masked, plain))
    assert one != other and one == pytest.approx(other, abs=0.3)
    assert masked.metrics.tokens_per_step == plain.metrics.tokens_per_step == 2 * 4 * 32


def test_windows_that_grow_count_the_same_tokens(texts: Path) -> None:
    seen = []

    class Shapes(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, _: object, batch: tuple, i: int) -> None:
            seen.append((trainer.global_step, *batch[0].shape))

    run = fit(texts, "growing", *GROWING, callback=Shapes())
    assert seen[::2] == [
        *[(step, 16, 8) for step in (0, 1, 2)],
        *[(step, 8, 16) for step in (3, 4, 5)],
        *[(step, 4, 32) for step in (6, 7, 8, 9)],
    ]
    assert run.results(1.0)["tokens"] == sum(b * s for _, b, s in seen)


@pytest.mark.parametrize(
    "options, said",
    [
        (("data.warmup_steps=5",), "data.warmup_steps=5: has no effect without data.warmup_seq"),
        (
            ("data.warmup_seq_len=64", "data.warmup_steps=450"),
            "data.warmup_steps=450: must be below trainer.max_steps=450",
        ),
        (
            (DOCUMENTS, "model.random_positions=512"),
            "data.document_mask=true: cannot go with model.random_positions=512",
        ),
        (("data=mix", "data.weights=[1]"), "data.weights=[1]: must be one for each of data.sourc"),
        (("data.sources=[stdlib]",), "data.sources=[stdlib]: data.corpus=stdlib is one text"),
    ],
)
def test_what_would_have_no_effect_or_cannot_be_is_refused(
    options: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    assert refused("train.py", *options, monkeypatch=monkeypatch, capfd=capfd).startswith(said)


def test_sources_are_found_again_wherever_they_were_typed(texts: Path, monkeypatch) -> None:
    """A run keeps absolute paths; others than those it began with are refused."""
    monkeypatch.chdir(texts)
    options = ("data=mix", "data.path=null", "data.weights=[1,2]", "data.seq_len=32")
    own = (*options, "data.sources=[text.txt,docs]")
    run = fit(texts, "placed", *own, "trainer.max_steps=4")
    assert run.prepared.config["data"]["sources"] == [f"{texts}/text.txt", f"{texts}/docs"]
    more = ("resume=auto", f"run_dir={texts}/placed", "trainer.max_steps=6")
    assert fit(texts, "placed", *own, *more).trainer.global_step == 6
    with pytest.raises(UserError, match=r"data.sources=.* the run began with"):
        fit(texts, "placed", *options, "data.sources=[docs,text.txt]", f"resume={texts}/placed")
