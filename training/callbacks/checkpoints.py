"""When a run saves checkpoints, and which of them it keeps."""

import math
import os
from pathlib import Path
from typing import Any

import lightning as L

from training.callbacks.validation import is_due
from training.kept import BEST, LAST, history, step_name


class BestAndLast(L.Callback):
    """After every validation: last.ckpt, and best.ckpt when the loss has never been lower.

    `every_n_steps`: last.ckpt also after every so many optimizer steps; None: not more often.
    `keep_last`: last.ckpt and the ones before it, as step-00000123.ckpt, so many in all.
    `saved_step`: the optimizer step that last.ckpt was saved at, as far as this process knows.
    """

    def __init__(
        self, directory: Path, every_n_steps: int | None = None, keep_last: int = 1
    ) -> None:
        self.directory, self.every_n_steps, self.keep_last = directory, every_n_steps, keep_last
        self.saved_step: int | None = None
        self._ended_step = 0
        self.forget()

    def forget(self) -> None:
        """Nothing has been validated yet."""
        self.best_loss = math.inf
        self.best_bpb = math.inf
        self.best_step = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know of the best so far."""
        return {"loss": self.best_loss, "bpb": self.best_bpb, "step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best so far."""
        self.best_loss, self.best_bpb = state_dict["loss"], state_dict["bpb"]
        self.best_step = state_dict["step"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Know the step of the last.ckpt that a resumed run goes on from.

        The directory is made here: other callbacks may save below it before this one does.
        """
        self.directory.mkdir(exist_ok=True)
        self._ended_step = trainer.global_step
        path = trainer.ckpt_path
        if path is not None and Path(path).resolve() == (self.directory / LAST).resolve():
            self.saved_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """After every `every_n_steps` optimizer steps: save, unless a validation is to come."""
        step = trainer.global_step
        if step == self._ended_step:
            return  # a micro-batch of a step that is still being accumulated
        self._ended_step = step
        due = self.every_n_steps is not None and step % self.every_n_steps == 0
        if due and not is_due(trainer):
            self.save_last(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save; a loss that is not a number is never the best."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        loss = float(trainer.callback_metrics["val/loss"])
        best = loss < self.best_loss
        if best:
            self.best_loss, self.best_step = loss, trainer.global_step
            self.best_bpb = float(trainer.callback_metrics["val/bpb"])
            trainer.save_checkpoint(self.directory / BEST, weights_only=False)
        self.save_last(trainer)

    def save_last(self, trainer: L.Trainer) -> None:
        """Write last.ckpt for the optimizer step that has just ended, and let old ones go.

        OSError where it cannot be written; the one before is whole then.
        """
        before, step = self.saved_step, trainer.global_step
        if self.keep_last > 1 and before is not None and before != step:
            self._keep(before)
        trainer.save_checkpoint(self.directory / LAST, weights_only=False)
        self.saved_step = step
        self._prune(step)

    def _keep(self, step: int) -> None:
        """Let last.ckpt, saved at `step`, also be found under the name of its step."""
        last, kept = self.directory / LAST, self.directory / step_name(step)
        try:
            os.link(last, kept)
        except (FileExistsError, FileNotFoundError):
            pass  # it has that name already; or somebody took it away
        except OSError:  # a file has one name here; until the new one is there, this is it
            os.replace(last, kept)

    def _prune(self, last_step: int) -> None:
        """Remove what is too old, and what an earlier course of the run had saved further on."""
        before = [path for step, path in history(self.directory) if step < last_step]
        kept = before[: self.keep_last - 1]
        for _, path in history(self.directory):
            if path not in kept:
                path.unlink(missing_ok=True)
