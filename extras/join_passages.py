"""The step from which far heads read several passages as one (`crossbatch_from`).

Among the keys of many passages a head is slow to learn what to look for; once it has learned that
within one, the others teach it what to leave alone.
"""

from typing import Any

import lightning as L

from extras.crossbatch import set_crossbatch
from training.callbacks.checkpoints import BestAndLast


def crossbatch_problems(config: dict[str, Any], overrides: list[str]) -> list[str]:
    """Every broken rule that ties crossbatch training to other keys, each of them a valid one."""
    passages, size = config["model"]["crossbatch"], config["data"]["batch_size"]
    start, steps = config["crossbatch_from"], config["trainer"]["max_steps"]
    if passages is None:
        typed = [o for o in overrides if o.startswith("crossbatch_from=")]
        return [f"{o}: has no effect without model.crossbatch; leave it out" for o in typed]
    problems = []
    if isinstance(start, int) and isinstance(steps, int) and start >= steps > 0:
        problems.append(
            f"crossbatch_from={start}: must be below trainer.max_steps={steps}, so that some steps "
            f"follow; try crossbatch_from={steps * 2 // 3}"
        )
    if size % (2 * passages):
        fitting = [n for n in range(2, passages) if size % (2 * n) == 0]
        works = f"model.crossbatch={fitting[-1]}" if fitting else f"data.batch_size={2 * passages}"
        problems.append(
            f"model.crossbatch={passages}: twice as many passages must divide "
            f"data.batch_size={size}, half of which is read passage by passage; try {works}"
        )
    return problems


class JoinPassages(L.Callback):
    """From optimizer step `start` on, far heads read `passages` passages as one; until then one.

    The best checkpoint so far has not learned from that, so that the search for it begins anew.
    """

    def __init__(self, start: int, passages: int, best: BestAndLast) -> None:
        self.start, self.passages, self.best = start, passages, best

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run goes on as it was."""
        joined = trainer.global_step >= self.start
        set_crossbatch(pl_module.net, self.passages if joined else 1)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        """Before the first batch of step `start`."""
        if trainer.global_step == self.start:
            set_crossbatch(pl_module.net, self.passages)
            self.best.forget()
