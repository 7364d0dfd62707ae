"""Lightning's Trainer for a run: its settings and its loggers."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from training.checkpoint_files import AtomicCheckpointIO
from training.metrics_file import JsonLines

# Steps, never epochs; progress and data order are ours.
OWN_SETTINGS: dict[str, Any] = {
    "max_epochs": -1,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}
BUILT_HERE = {*OWN_SETTINGS, "default_root_dir", "logger", "callbacks", "plugins"}
BUILT_HERE |= {"enable_checkpointing"}


def trainer_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each key under `trainer` that Lightning's Trainer does not have or we set."""
    keys = sorted(settings.keys() - {"_target_"})
    known = inspect.signature(L.Trainer.__init__).parameters
    taken = [f"trainer.{key}: is set by train.py itself" for key in keys if key in BUILT_HERE]
    return taken + [
        f"trainer.{key}: Lightning's Trainer has no such key" for key in keys if key not in known
    ]


def build_trainer(
    config: Mapping[str, Any],
    device: torch.device,
    directory: Path,
    callbacks: Sequence[L.Callback],
    resume_step: int | None,
) -> L.Trainer:
    """The Trainer of a run in `directory`, one that goes on from `resume_step` if that is given."""
    settings = config["trainer"]
    automatic = "bf16-mixed" if device.type == "cuda" else "32-true"
    changed = {
        "precision": automatic if settings["precision"] == "auto" else settings["precision"],
        # Lightning counts micro-batches there, the config optimizer steps.
        "val_check_interval": settings["val_check_interval"] * settings["accumulate_grad_batches"],
    }
    for callback in callbacks:  # a user's own, which would save beside metrics.jsonl's "version"
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(directory / "checkpoints")
    partial = instantiate({**settings, **changed, "_partial_": True})
    return partial(
        default_root_dir=str(directory),
        logger=build_loggers(config["logger"] or {}, directory, resume_step),
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO()],
        # Ours is none of Lightning's kind, which would be moved behind all others.
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        **OWN_SETTINGS,
    )


def build_loggers(
    settings: Mapping[str, Any], directory: Path, resume_step: int | None
) -> list[Logger]:
    """metrics.jsonl, and the loggers of the group `logger`."""
    loggers: list[Logger] = [JsonLines(directory / "metrics.jsonl", resume_step)]
    for logger in settings.values():
        extra: dict[str, Any] = {"save_dir": str(directory)}
        if resume_step is not None and logger["_target_"].endswith("TensorBoardLogger"):
            extra["purge_step"] = resume_step + 1
        loggers.append(instantiate(logger | extra))
    return loggers


class ValidateLast(L.Callback):
    """Makes a full validation follow the last step, whatever the interval is."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop after the last step, since Lightning validates once more when it is told to."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True
