"""What both kinds of fuzzing share: where trials run, and what each must have been.

Trials are numbered and drawn from (seed, number), so that each can be repeated by itself.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bad_input import MOST_LINES, RUN, listing, make_home
from forked import Outcome, forked, warm

WALL = 40  # seconds of a trial
# A measurement of a second, for evaluate.py.
FEW = ("passages=2", "target_tokens=8", "lengths=[32,64]", "methods=[none,yarn]")


@dataclass(frozen=True)
class Trial:
    """What was run, how it ended, and what is wrong with that, or None."""

    number: int
    words: str
    done: Outcome
    fault: str | None


class Workshop:
    """A directory in which trials run, cleaned after each.

    It has a run of four steps, cut so that two are missing (`cut`), and the weights that it ends
    with; `trained` is a whole one.
    """

    def __init__(self, folder: Path) -> None:
        warm()
        os.environ["ROPEWALK_CACHE"] = str(folder / "cache")
        (folder / "cache").mkdir(parents=True)
        self.home = make_home(folder)
        self._train("trained", "trainer.max_steps=4")
        self._train("cut", "trainer.max_steps=2")
        (self.home / "cut/results.json").unlink()
        self.before = listing(self.home)

    def _train(self, name: str, *words: str) -> None:
        done = self.run("train.py", *RUN, *words, f"run_dir={name}")
        assert done.status == 0, done

    def run(self, script: str, *words: str) -> Outcome:
        """One command in here."""
        return forked(script, *words, cwd=self.home, wall=WALL)

    def written(self) -> list[str]:
        """What there is more, less or other than before, by its path from here."""
        now = listing(self.home)
        changed = {p for p in now.keys() | self.before if now.get(p) != self.before.get(p)}
        return sorted(os.path.relpath(path, self.home) for path in changed)

    def clean(self) -> None:
        """Remove what a trial has left."""
        for name in sorted(self.written(), reverse=True):
            path = self.home / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif os.path.lexists(path):
                path.unlink()
        assert not self.written(), "a trial has changed what was there before"


def fault_of(done: Outcome, written: Sequence[str], *, patient: bool = False) -> str | None:
    """Why a command has not ended as it must, or None.

    It ends well, or with an answer and nothing written. `patient`: it was asked for more than a
    trial has time for.
    """
    if done.status is None or done.status in (152, 158):  # out of time
        return None if patient else "it hangs"
    if "Traceback" in done.err or done.status not in (0, 1, 2):
        return f"status {done.status}: {(done.err.strip().splitlines() or [''])[-1][:200]}"
    if done.status == 0:
        return None
    lines = done.err.splitlines()
    if not any(line.startswith("error: ") for line in lines) or len(lines) > MOST_LINES:
        return f"an answer in another form: {done.err[:300]}"
    if done.status == 2 and written and "diverged" not in done.err:
        return f"it refuses, and leaves {written[:3]}"
    return None


def weights(checkpoint: Path) -> str:
    """A digest of the weights in a checkpoint."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
