"""Files that were damaged, through every command that reads them."""

import random
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from bad_input import RUN
from forked import forked
from fuzz import FEW, WALL, Trial, Workshop, fault_of, weights
from training.checkpoint_files import AtomicCheckpointIO

Damage = Callable[[bytes, random.Random], bytes]


def _flipped(content: bytes, source: random.Random) -> bytes:
    at, changed = source.randrange(len(content)), bytearray(content)
    changed[at] ^= 1 << source.randrange(8)
    return bytes(changed)


def _replaced(content: bytes, source: random.Random, new: Callable[[int], bytes]) -> bytes:
    at = source.randrange(len(content))
    size = min(source.choice((1, 16, 512, 4096)), len(content) - at)
    return content[:at] + new(size) + content[at + size :]


def _spliced(content: bytes, source: random.Random) -> bytes:
    """A piece of it stands in another place, too."""
    one, two = sorted(source.randrange(len(content)) for _ in range(2))
    at = source.randrange(len(content))
    return content[:at] + content[one:two] + content[at:]


DAMAGES: dict[str, Damage] = {
    "flipped": _flipped,
    "cut": lambda content, source: content[: source.randrange(len(content))],
    "zeroed": lambda content, source: _replaced(content, source, bytes),
    "random": lambda content, source: _replaced(content, source, source.randbytes),
    "spliced": _spliced,
    "longer": lambda content, source: content + source.randbytes(source.choice((1, 22, 100))),
    "headless": lambda content, source: content[source.randrange(1, 100) :],
    "short": lambda _, source: source.randbytes(source.randrange(3)),
}
VALUES = (
    *(None, -1, 0, 10**30, 1.5, float("nan"), "", "x", [], {}, [1], True, "../../x", b"\0"),
    *(torch.zeros(2), torch.full((3, 3), float("nan")), "${oc.env:HOME}", {"_target_": "os.abort"}),
)
READERS = ("resume", "init_from", "evaluate", "generate", "export")


def file_trial(shop: Workshop, seed: int, number: int) -> Trial:
    """Damage a checkpoint, a run's config or a text, and run a command that reads it."""
    source = random.Random(f"{seed} files {number}")
    kind = source.choices(("checkpoint", "contents", "config", "corpus"), weights=(4, 3, 3, 2))[0]
    return {
        "checkpoint": _bytes_trial,
        "contents": _contents_trial,
        "config": _config_trial,
        "corpus": _corpus_trial,
    }[kind](shop, source, number)


def checkpoint_trial(shop: Workshop, seed: int, number: int, reader: str, damage: str) -> Trial:
    """Bytes of a checkpoint, damaged in a way of `DAMAGES`: every change is seen by `reader`."""
    return _damaged(shop, random.Random(f"{seed} {number}"), number, reader, damage)


def _bytes_trial(shop: Workshop, source: random.Random, number: int) -> Trial:
    return _damaged(shop, source, number, source.choice(READERS), source.choice(list(DAMAGES)))


def _damaged(shop: Workshop, source: random.Random, number: int, reader: str, name: str) -> Trial:
    run, path = _copy(shop, reader)
    content = path.read_bytes()
    path.write_bytes(DAMAGES[name](content, source))
    same = path.read_bytes() == content
    return _read(shop, reader, run, number, f"{name} checkpoint", "refuse" if not same else None)


def _contents_trial(shop: Workshop, source: random.Random, number: int) -> Trial:
    """Values in a checkpoint whose digest is right: somebody has written it."""
    reader = source.choice(READERS)
    run, path = _copy(shop, reader)
    contents = torch.load(path, map_location="cpu", weights_only=True)
    words = _alter(contents, source)
    with mock.patch("training.checkpoint_files.check_finite"):
        AtomicCheckpointIO().save_checkpoint(contents, path)
    return _read(shop, reader, run, number, f"checkpoint with {words}", None)


def _config_trial(shop: Workshop, source: random.Random, number: int) -> Trial:
    """A run's config.yaml: its bytes, or one of its values."""
    run, _ = _copy(shop, "resume")
    path = run / ".hydra/config.yaml"
    text = path.read_text()
    if source.random() < 0.5:
        name = source.choice(list(DAMAGES))
        path.write_bytes(DAMAGES[name](text.encode(), source))
    else:
        lines = text.splitlines()
        at = source.choice([i for i, line in enumerate(lines) if re.match(r" *\w+: \S", line)])
        value = source.choice(
            ("null", "-1", "x", ".nan", "[]", "{}", "!!python/name:os.abort", "1")
        )
        name = f"{lines[at].strip()} -> {value}"
        lines[at] = f"{lines[at].partition(':')[0]}: {value}"
        path.write_text("\n".join(lines) + "\n")
    return _read(shop, "resume", run, number, f"config, {name}", "same weights")


def _corpus_trial(shop: Workshop, source: random.Random, number: int) -> Trial:
    """A text: another one is a text as good as any, or is none."""
    name = source.choice(list(DAMAGES))
    path = shop.home / "damaged.txt"
    path.write_bytes(DAMAGES[name]((shop.home / "text.txt").read_bytes(), source))
    words: tuple[str, ...] = ("train.py", *RUN, "data.path=damaged.txt", "run_dir=new")
    if source.random() < 0.5:
        source_of_text = ("data=text", "data.path=damaged.txt", "output_dir=new")
        words = ("evaluate.py", "checkpoint=trained", *FEW, *source_of_text)
    done = shop.run(*words)
    left = [name for name in shop.written() if name != "damaged.txt"]
    shop.clean()
    return Trial(number, f"{name} corpus: {words[0]}", done, fault_of(done, left))


def _copy(shop: Workshop, reader: str) -> tuple[Path, Path]:
    """A run that may be damaged, and the checkpoint that the reader takes."""
    run = shop.home / "damaged"
    shutil.copytree(shop.home / ("cut" if reader == "resume" else "trained"), run)
    name = "last" if reader == "resume" else "best"
    for path in (run / "checkpoints").iterdir():
        if path.stem != name:
            path.unlink()  # no other to fall back on
    return run, run / f"checkpoints/{name}.ckpt"


def _command(reader: str, run: str) -> tuple[str, ...]:
    return {
        "resume": ("train.py", f"resume={run}", "trainer.max_steps=4"),
        "init_from": ("train.py", *RUN, f"init_from={run}", "run_dir=new"),
        "evaluate": ("evaluate.py", f"checkpoint={run}", *FEW, "output_dir=new"),
        "generate": ("generate.py", f"checkpoint={run}", "max_new_tokens=8"),
        "export": ("export.py", f"checkpoint={run}", "output_dir=new"),
    }[reader]


def _read(
    shop: Workshop, reader: str, run: Path, number: int, damage: str, promise: str | None
) -> Trial:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    done = forked(*_command(reader, run.name), cwd=shop.home, wall=WALL)
    after = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    left = [str(p) for p in after if before.get(p) != after[p]]
    left += [name for name in shop.written() if not name.startswith("damaged")]
    fault = fault_of(done, left)
    if fault is None and done.status == 0:
        fault = _broken(promise, shop, run, done.out)
    shop.clean()
    return Trial(number, f"{damage}: {reader}=", done, fault)


def _broken(promise: str | None, shop: Workshop, run: Path, said: str) -> str | None:
    if promise == "refuse":
        return "damage is not seen"
    if promise is None or " in the checkpoint\n" in said:
        return None
    same = weights(run / "checkpoints/last.ckpt") == _resumed(shop)
    return None if same else "other weights in silence"


@cache
def _resumed(shop: Workshop) -> str:
    """The weights of the run that goes on undamaged."""
    run = shop.home / "undamaged"
    shutil.copytree(shop.home / "cut", run)
    done = shop.run(*_command("resume", run.name))
    assert done.status == 0, done
    return weights(run / "checkpoints/last.ckpt")


def _alter(contents: dict[str, Any], source: random.Random) -> str:
    """Change, remove or add a value somewhere in nested dictionaries; what was done."""
    at, path = contents, []
    while True:
        key = source.choice(list(at))
        path.append(str(key))
        if not isinstance(at[key], dict) or not at[key] or source.random() < 0.3:
            break
        at = at[key]
    if source.random() < 0.25:
        del at[key]
        return f"no {'.'.join(path)}"
    value = source.choice(VALUES)
    at[key] = value
    return f"{'.'.join(path)}={str(value)[:40]!r}"
