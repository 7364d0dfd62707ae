"""What a run writes down while it trains: a line in metrics.jsonl, the same tags in TensorBoard."""

import json
import math
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from common.files import write_text
from training.callbacks.throughput import Stopwatch, synchronize


class JsonLines(Logger):
    """metrics.jsonl: one JSON object a line, `step` and the tags of that step."""

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        if resume_step is not None and path.exists():
            cut_back(path, resume_step)

    name = "metrics"
    version = ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kw: Any) -> None:
        """Nothing: they stand in .hydra/config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a line, at once: a run that is killed keeps what it wrote."""
        numbers = {name: float(value) for name, value in metrics.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")


def cut_back(path: Path, step: int) -> None:
    """Drop every line of a metrics file past `step`, and a last line that was cut off."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    write_text(path, "".join(kept))


def latest_metrics(path: Path, step: int) -> dict[str, float]:
    """The last value of every tag up to `step`, as a run that goes on from there had them."""
    latest: dict[str, float] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        with suppress(json.JSONDecodeError):  # a last line that was cut off
            latest |= {} if (values := json.loads(line))["step"] > step else values
    return {tag: value for tag, value in latest.items() if tag != "step"}


class Metrics(L.Callback):
    """Logs every `every_n_steps` optimizer steps and at each validation; keeps the throughput.

    The device is synchronised at those steps only. `step` is the number of optimizer steps done.
    """

    def __init__(self, every_n_steps: int, tokens_per_step: int) -> None:
        self.every_n_steps = every_n_steps
        self.tokens_per_step = tokens_per_step
        self.stopwatch = Stopwatch()
        self.latest: dict[str, float] = {}
        self._logged_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run goes on from its step."""
        self._logged_step = self._counted_step = trainer.global_step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """The clock stands during validation, sampling and saving, and runs from here."""
        self.stopwatch.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """At an optimizer step: count it, and log when its turn has come."""
        step = trainer.global_step
        if step == self._counted_step:
            return  # a micro-batch of a step that is still being accumulated
        self._counted_step = step
        warmed_up = self.stopwatch.step()
        due = step % self.every_n_steps == 0 or step >= trainer.max_steps
        if due or warmed_up:
            self._pause(pl_module)
        if due:
            self._log_training(trainer, pl_module, step)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation is not training time."""
        self._pause(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the full validation that has just ended."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics = {name: float(trainer.callback_metrics[name]) for name in ("val/loss", "val/bpb")}
        self._write(trainer, metrics, trainer.global_step)

    def tokens_per_second(self) -> float | None:
        """Of all training steps after the first ten; None where there were no more."""
        if self.stopwatch.steps == 0 or self.stopwatch.seconds == 0:
            return None
        return self.stopwatch.steps * self.tokens_per_step / self.stopwatch.seconds

    def _log_training(self, trainer: L.Trainer, module: L.LightningModule, step: int) -> None:
        steps, seconds = self.stopwatch.lap()
        loss = float(torch.stack(module.step_losses).mean())
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"train/loss={loss} at step {step}: the run diverged; try a lower optimizer.lr "
                f"(it is {module.optimizer_config.lr:g}) or a longer optimizer.warmup_steps"
            )
        metrics = {
            "train/loss": loss,
            "train/lr": module.lr,
            "train/grad_norm": float(module.grad_norm),
            "train/tokens_per_second": steps * self.tokens_per_step / seconds,
        }
        self._write(trainer, metrics, step)

    def _pause(self, module: L.LightningModule) -> None:
        synchronize(module.device)
        self.stopwatch.stop()

    def _write(self, trainer: L.Trainer, metrics: dict[str, float], step: int) -> None:
        self.latest |= metrics
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step)
