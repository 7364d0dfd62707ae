"""Lightning's Trainer for a run: its settings and its loggers."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger

from training.callbacks.checkpoints import AtomicCheckpointIO
from training.metrics_file import METRICS, JsonLines

# Steps, never epochs; checkpoints, progress and data order are ours.
OWN_SETTINGS: dict[str, Any] = {
    "max_epochs": -1,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "use_distributed_sampler": False,
}
BUILT_HERE = {*OWN_SETTINGS, "default_root_dir", "logger", "callbacks", "plugins"}


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
) -> L.Trainer:
    """The Trainer of a run in `directory`."""
    settings = config["trainer"]
    automatic = "bf16-mixed" if device.type == "cuda" else "32-true"
    changed = {
        "precision": automatic if settings["precision"] == "auto" else settings["precision"],
        # Lightning counts micro-batches there, the config optimizer steps.
        "val_check_interval": settings["val_check_interval"] * settings["accumulate_grad_batches"],
    }
    partial = instantiate({**settings, **changed, "_partial_": True})
    return partial(
        default_root_dir=str(directory),
        logger=build_loggers(config["logger"] or {}, directory),
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO()],
        **OWN_SETTINGS,
    )


def build_loggers(settings: Mapping[str, Any], directory: Path) -> list[Logger]:
    """metrics.jsonl, and the loggers of the group `logger`."""
    loggers: list[Logger] = [JsonLines(directory / METRICS)]
    return loggers + [instantiate(one | {"save_dir": str(directory)}) for one in settings.values()]
