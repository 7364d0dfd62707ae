"""The step from which far heads read several passages as one (`crossbatch_from`).

Among the keys of many passages a head is slow to learn what to look for; once it has learned that
within one, the others teach it what to leave alone.
"""

from typing import Any

import lightning as L

from training.checkpoints import BestAndLast


def crossbatch_problems(config: dict[str, Any]) -> list[str]:
    """Every broken rule that ties crossbatch training to other keys, as far as they are numbers."""
    start, steps = config["crossbatch_from"], config["trainer"]["max_steps"]
    passages, size = config["model"]["crossbatch"], config["data"]["batch_size"]
    if not all(isinstance(n, int) for n in (start, steps, size)):  # what each must be: elsewhere
        return []
    problems = []
    if passages is None and start:
        problems.append(
            f"crossbatch_from={start}: has no effect without model.crossbatch; leave it out, or "
            "try model.crossbatch=4"
        )
    if start and start >= steps:
        works = f"crossbatch_from={steps * 2 // 3}"
        problems.append(
            f"crossbatch_from={start}: must be below trainer.max_steps={steps}, so that some steps "
            f"follow; try {works}"
        )
    if isinstance(passages, int) and passages > 1 and size % (2 * passages):
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

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
    ) -> None:
        """Before every batch, so that a resumed run goes on as it was."""
        step = trainer.global_step
        pl_module.net.set_crossbatch(self.passages if step >= self.start else 1)
        if step == self.start and step:
            self.best.forget()
