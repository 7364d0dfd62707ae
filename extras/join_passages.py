"""The step from which far heads read several passages as one (`crossbatch_from`).

Among the keys of many passages a head is slow to learn what to look for; once it has learned that
within one, the others teach it what to leave alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L

from common.rules import broken, integer
from model import TransformerConfig
from training.callbacks import find
from training.callbacks.checkpoints import BestAndLast
from training.phases import Phase

_STEP = integer(0, 2**40)._replace(text="an integer of at least 0")
_SIZE = integer(1, 2**40)


class JoinPassages(Phase):
    """From optimizer step `start` on, far heads read `passages` passages as one; until then one.

    The best checkpoint so far has not learned from that, so that the search for it begins anew.
    """

    def __init__(self, start: int, passages: int | None) -> None:
        """`passages`: None does nothing."""
        self.start, self.passages = start, passages

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """A resumed run goes on as it was."""
        if self.passages is not None:
            joined = trainer.global_step >= self.start
            pl_module.net.set_crossbatch(self.passages if joined else 1)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Before the first batch of step `start`."""
        if self.passages is not None and trainer.global_step == self.start:
            pl_module.net.set_crossbatch(self.passages)
            find(trainer, BestAndLast).forget()

    def describe(self) -> list[tuple[str, str]]:
        """Of training: the passages and the step."""
        if self.passages is None:
            return []
        return [("train", f"{self.passages} passages read as one from step {self.start:,} on")]

    def problems(self, config: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
        """The step must be one of the run's, and the passages must fill a batch."""
        problems = broken("crossbatch_from", self.start, _STEP, 0)
        if self.passages is None:
            typed = [o for o in overrides if o.startswith("crossbatch_from=")]
            return problems + [
                f"{o}: has no effect without model.crossbatch; leave it out" for o in typed
            ]
        steps, size = config["trainer"]["max_steps"], config["data"]["batch_size"]
        if not problems and isinstance(steps, int) and self.start >= steps > 0:
            problems.append(
                f"crossbatch_from={self.start}: must be below trainer.max_steps={steps}, so that "
                f"some steps follow; try crossbatch_from={steps * 2 // 3}"
            )
        if _SIZE.holds(size) and _is_model(config):
            problems += _batch_problems(self.passages, size)
        return problems


def _batch_problems(passages: int, size: int) -> list[str]:
    """A line where groups of passages do not fill half of a batch of `size`."""
    if size % (2 * passages) == 0:
        return []
    fitting = [n for n in range(2, passages) if size % (2 * n) == 0]
    works = f"model.crossbatch={fitting[-1]}" if fitting else f"data.batch_size={2 * passages}"
    return [
        f"model.crossbatch={passages}: twice as many passages must divide data.batch_size={size}, "
        f"half of which is read passage by passage; try {works}"
    ]


def _is_model(config: Mapping[str, Any]) -> bool:
    """Whether there is a model of this config; what is wrong with it is said elsewhere."""
    try:
        TransformerConfig.from_config(config, vocab_size=256)
    except ValueError:
        return False
    return True
