"""The catalogue of bad inputs: how its rows are read, what every answer must be, where they run.

A row is what a user types behind the command, as in a shell, and what the answer must say beside
the last word's key: the rule, and a value that works.
"""

import gzip
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import pytest
import torch
from hydra import compose, initialize_config_dir

from cli.compose import plain
from commands import ROOT, write_text
from foreign_folder import write_llama
from forked import Outcome, forked
from model import Transformer, TransformerConfig
from training.checkpoint_files import AtomicCheckpointIO

Row = tuple[str, ...]
# A tiny run that would start at once, did the row not forbid it.
RUN = (
    *("model.n_layers=1", "model.d_model=32", "model.n_heads=2", "data=text", "data.seq_len=32"),
    *("data.path=text.txt", "data.batch_size=4", "callbacks=none", "rope=pytorch"),
    *("trainer.max_steps=2", "trainer.val_check_interval=1", "trainer.accelerator=cpu"),
    *("evaluation.methods=[none]", "evaluation.lengths=[32]", "evaluation.passages=1"),
)
MOST_LINES = 6


def rows(table: Sequence[Row], *, every: int) -> list:
    """The rows as parameters: each `every`-th runs by default, all others with `-m slow`."""
    lines = [row[0] for row in table]
    assert len(set(lines)) == len(lines), [line for line in lines if lines.count(line) > 1]
    parameters = []
    for number, row in enumerate(table):
        marks = [pytest.mark.slow] if number % every else []
        parameters.append(pytest.param(row, marks=marks, id=row[0][:80]))
    return parameters


def check_refused(script: str, row: Row, home: Path, given: Sequence[str] = ()) -> None:
    """Run `script` under `given` and the row in `home`, and hold the answer to every promise."""
    line, *said = row
    typed = shlex.split(line)
    key = typed[-1].lstrip("+~").partition("=")[0].partition("@")[0][:40]  # long ones are cut
    before = listing(home)
    done = forked(script, *given, *typed, cwd=home)
    assert_refused(done, [key, *said])
    assert listing(home) == before
    assert not list((home.parent / "cache").rglob("*.part*"))


def assert_refused(done: Outcome, said: Sequence[str], status: int = 2) -> None:
    """Answered in some lines on stderr alone, which name all that was `said`."""
    assert done.status == status, done
    assert "Traceback" not in done.err, done.err
    assert done.out == "", done.out
    assert done.err.startswith("error: "), done.err
    lines = done.err.splitlines()
    assert len(lines) <= MOST_LINES and max(map(len, lines)) < 1000, done.err
    for words in said:
        assert words in done.err, (words, done.err)


def listing(home: Path) -> dict[str, tuple[int, int]]:
    """What lies in a directory, with sizes and times; the lock of a run may come and go."""
    paths = [path for path in home.rglob("*") if path.name != ".lock" and not path.is_dir()]
    files = {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in paths}
    return files | {str(path): (0, 0) for path in home.rglob("*") if path.is_dir()}


def make_home(folder: Path) -> Path:
    """A working directory with a text, files that are no texts, and models never trained.

    One of them is from elsewhere; of two more a part is missing.
    """
    home = folder / "home"
    (home / "folder").mkdir(parents=True)
    write_text(home / "text.txt", lines=300)
    (home / "folder" / "image.png").write_bytes(b"\x89PNG")
    os.mkfifo(home / "fifo")
    for name, content in TEXTS.items():
        (home / name).write_bytes(content)
    (home / "dangling.txt").symlink_to("nowhere")
    (home / "loop.txt").symlink_to("loop.txt")
    (home / "held/.hydra").mkdir(parents=True)
    save_checkpoint(home / "run")
    save_checkpoint(home / "learned", "position=learned")
    model = write_llama(home / "model", n_layers=1, n_heads=2, n_kv_heads=1)
    for name, lacking in (("weightless", "model.safetensors"), ("wordless", "tokenizer.json")):
        shutil.copytree(model, home / name, ignore=shutil.ignore_patterns(lacking))
    return home


TEXTS = {
    "empty.txt": b"",
    "records.jsonl": b'{"id": 1, "text": "a record"}\n' * 99,
    "broken.jsonl": b'{"text": "a record"}\n{"text": "cut',
    "cut.jsonl.gz": gzip.compress(b'{"text": "a record"}\n' * 99, mtime=0)[:-9],
    "no.parquet": b"no Parquet file",
    "one.txt": b"a",
    "short.txt": b"too short\n",
    "random.txt": bytes(range(256)) * 20,
    "latin.txt": "fünf schöne Sätze\n".encode("latin-1") * 200,
    "utf16.txt": ("five fine sentences\n" * 200).encode("utf-16"),
    "nul.txt": b"words and \0 words\n" * 200,
    "cut.txt": "schön\n".encode()[:4] + b"words\n" * 400,
    "surrogate.txt": b"\xed\xa0\x80words\n" * 200,
    "overlong.txt": b"\xc0\xafwords\n" * 200,
    "spaces only.bin": b"\xff\xfe" * 400,
}


def save_checkpoint(run: Path, *overrides: str, spoil: float | None = None) -> Path:
    """A run directory with a best checkpoint of a model never trained; `spoil` is one weight."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = plain(compose("train", [*RUN, *overrides]))
    torch.manual_seed(0)
    net = Transformer(TransformerConfig.from_config(config, 256))
    state = {f"net.{name}": weight for name, weight in net.state_dict().items()}
    if spoil is not None:
        state["net.embedding.weight"].view(-1)[7] = spoil
    identity = {"config": config, "vocab_size": 256, "tokenizer": {"name": "byte"}}
    identity["fingerprint"] = {"corpus": "text", "sha256": "0" * 64}
    contents = {"ropewalk": identity, "state_dict": state, "global_step": 5}
    path = run / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    with mock.patch("training.checkpoint_files.check_finite"):
        AtomicCheckpointIO().save_checkpoint(contents, path)
    return path
