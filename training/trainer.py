"""Lightning's Trainer for a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, SimpleProfiler

from training.checkpoint_files import AtomicCheckpointIO
from training.metrics_file import METRICS, JsonLines
from training.parts import build_loggers, first_line

# Steps, never epochs; progress and data order are ours.
OWN_SETTINGS: dict[str, Any] = {
    "max_epochs": -1,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


def build_trainer(
    config: Mapping[str, Any],
    device: torch.device,
    directory: Path,
    callbacks: Sequence[L.Callback],
) -> L.Trainer:
    """The Trainer of a run in `directory`, which need not be there yet: nothing is written.

    ValueError for settings that do not go together.
    """
    settings = config["trainer"]
    automatic = "bf16-mixed" if device.type == "cuda" else "32-true"
    changed = {
        "precision": automatic if settings["precision"] == "auto" else settings["precision"],
        # Lightning counts micro-batches there, the config optimizer steps.
        "val_check_interval": settings["val_check_interval"] * settings["accumulate_grad_batches"],
    }
    settings = {**settings, **changed, "profiler": _profiler(settings.get("profiler"), directory)}
    del settings["_target_"]  # which `training.trainer_rules` has seen to be this class
    run_name = f"{config['name']}/{directory.name}"
    loggers = build_loggers(config["logger"] or {}, directory, run_name)
    try:
        return L.Trainer(
            default_root_dir=str(directory),
            logger=[JsonLines(directory / METRICS), *loggers.values()],
            callbacks=list(callbacks),
            plugins=[AtomicCheckpointIO()],
            # Ours is none of Lightning's kind, which would be moved behind all others.
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            **settings,
            **OWN_SETTINGS,
        )
    except Exception as error:  # what rules of ours on single values do not know
        raise ValueError(f"trainer: Lightning refuses this run ({first_line(error)})") from error


def _profiler(name: str | None, directory: Path) -> Profiler | None:
    """Lightning's profiler of that name, whose report is fit-<name>.txt in the run's directory."""
    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
    return kinds[name](dirpath=directory, filename=name) if name else None
