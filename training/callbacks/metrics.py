"""The figures of training: logged every few steps and at each validation."""

import math
from typing import Any

import lightning as L
import torch

from training.callbacks.checkpoints import BestAndLast
from training.callbacks.throughput import StepTimer, synchronize
from training.metrics_file import METRICS
from training.module import LanguageModule
from training.tags import LOWEST, SPEED


class Metrics(L.Callback):
    """Logs every `every_n_steps` optimizer steps and at each validation; measures throughput.

    The device is synchronised at those steps only. `step` is the number of optimizer steps done,
    `latest` the last value of every tag.
    """

    def __init__(self, every_n_steps: int, tokens_per_step: int, best: BestAndLast) -> None:
        """`best` knows the lowest loss before a validation, in a resumed run too."""
        self.every_n_steps, self.tokens_per_step, self.best = every_n_steps, tokens_per_step, best
        self.timer = StepTimer()
        self.latest: dict[str, float] = {}
        self._counted_step = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run reports if it logs nothing more; no figure of the machine."""
        return {"latest": {tag: v for tag, v in self.latest.items() if tag != SPEED}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the latest figures; a line says so where `latest`, as logged, lacks them."""
        saved = {tag: v for tag, v in state_dict["latest"].items() if isinstance(v, float)}
        lost = [tag for tag, v in saved.items() if math.isfinite(v) and self.latest.get(tag) != v]
        if lost:
            print(f"{METRICS}: lines of before the checkpoint are lost ({', '.join(lost)})")
        self.latest |= saved

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the step that a resumed run goes on from."""
        self._counted_step = trainer.global_step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Go on timing, which stops during validation, sampling and saving."""
        self.timer.resume()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """After an optimizer step: count it, and log every few of them."""
        step = trainer.global_step
        if step == self._counted_step:
            return  # a micro-batch of a step that is still being accumulated
        self._counted_step = step
        ends_warmup = self.timer.count_step()
        logs = step % self.every_n_steps == 0 or step >= trainer.max_steps
        if logs or ends_warmup:
            self._pause(pl_module)
        if logs:
            assert isinstance(pl_module, LanguageModule)
            self._log_training(trainer, pl_module, step)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop timing: validation is no training."""
        self._pause(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log a full validation."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        logged = trainer.callback_metrics
        names = ["val/loss", "val/bpb", *(name for name in logged if name.startswith("val/loss/"))]
        metrics = {name: float(logged[name]) for name in names}
        metrics[LOWEST] = min(self.best.best_loss, metrics["val/loss"])  # never NaN, in this order
        self._write(trainer, metrics, trainer.global_step)

    def tokens_per_second(self) -> float | None:
        """The throughput of all steps after the warm-up; None where there were none."""
        if self.timer.steps == 0 or self.timer.seconds == 0:
            return None
        return self.timer.steps * self.tokens_per_step / self.timer.seconds

    def _log_training(self, trainer: L.Trainer, module: LanguageModule, step: int) -> None:
        steps, seconds = self.timer.interval()
        module.watch.settle()
        loss = float(torch.stack(module.step_losses).mean())
        metrics = {
            "train/loss": loss,
            "train/lr": module.lr,
            "train/grad_norm": float(module.grad_norm),
            SPEED: steps * self.tokens_per_step / seconds,
        }
        self._write(trainer, metrics, step)

    def _pause(self, module: L.LightningModule) -> None:
        synchronize(module.device)
        self.timer.pause()

    def _write(self, trainer: L.Trainer, metrics: dict[str, float], step: int) -> None:
        self.latest |= metrics
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step)
