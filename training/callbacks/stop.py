"""A run that is asked to stop ends at the next optimizer step, with a checkpoint of it."""

import os
import shutil
import signal
import subprocess
from typing import Any

import lightning as L
from lightning.pytorch.plugins.environments import SLURMEnvironment

from common.signals import Request, Stopped
from training.callbacks.checkpoints import BestAndLast

# What SLURM is told to send before a job's time is up; Windows has no such signal.
REQUEUE = getattr(signal, "SIGUSR1", None)


def requeue_signals() -> tuple[int, ...]:
    """The signal by which SLURM announces the end of a job that it may start again."""
    return (REQUEUE,) if REQUEUE and SLURMEnvironment.detect() else ()


class StopWhenAsked(L.Callback):
    """Looks at `request` after every optimizer step, and within and after validations.

    A validation is given up: a run that goes on from the checkpoint does it anew
    (`training.callbacks.validation`). The last one is finished, since nothing comes after it.
    It must be the last callback but for Lightning's own, so that all of the step is done.
    """

    def __init__(self, request: Request, checkpoints: BestAndLast) -> None:
        self.request, self.checkpoints = request, checkpoints

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals back from Lightning, whose own handlers would end the run elsewhere."""
        self.request.listen(requeue_signals())
        trainer._signal_connector.received_sigterm = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, out: Any, batch: Any, index: int
    ) -> None:
        """Save the step that has ended, and stop; not amid the micro-batches of one."""
        if (index + 1) % trainer.accumulate_grad_batches == 0:
            self._save_and_stop(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Give up a validation that is not the last."""
        self._save_and_stop(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop after a validation, which has saved its step."""
        if self.request.number is not None:
            raise Stopped(self.request.number)

    def _save_and_stop(self, trainer: L.Trainer) -> None:
        if self.request.number is None or trainer.global_step >= trainer.max_steps:
            return
        self.checkpoints.save_last(trainer)
        raise Stopped(self.request.number)


def requeue() -> str:
    """Ask SLURM to start this job again; what came of it, in words."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if (array := os.environ.get("SLURM_ARRAY_JOB_ID")) is not None:
        job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    scontrol = shutil.which("scontrol")
    if scontrol is None:
        return f"job {job} cannot be requeued: there is no scontrol"
    done = subprocess.run([scontrol, "requeue", job], capture_output=True, text=True)
    if done.returncode:
        return f"job {job} was not requeued: {done.stderr.strip()}"
    return f"job {job} is requeued"
