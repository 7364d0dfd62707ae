"""Checkpoints: written atomically, the best and the last, read with `weights_only=True`."""

import math
import pickle
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from common.files import replacing

BEST, LAST = "best.ckpt", "last.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint appears under its name complete or not at all, and survives a power cut.

    Lightning's own writer stages the file in the temporary directory (a move between file systems
    is not atomic) and swallows a refused write.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write it to a file beside `path`, which takes that name when it is whole."""
        with replacing(Path(path)) as file:
            torch.save(checkpoint, file)


class BestAndLast(L.Callback):
    """After every validation: last.ckpt, and best.ckpt when the loss has never been lower."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
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
        """Save the optimizer step that has just ended."""
        trainer.save_checkpoint(self.directory / LAST, weights_only=False)


def find_checkpoint(path: str | Path, key: str = "checkpoint") -> Path:
    """The checkpoint file that `path` means: itself, or the best one of a run directory.

    Raises ValueError, naming the config key `key`, where there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    found = path / "checkpoints" / BEST
    if found.is_file():
        return found
    what = "no checkpoint in there yet" if path.is_dir() else "no such file or directory"
    raise ValueError(f"{key}={path}: {what}; give a run directory that holds checkpoints/{BEST}")


def read_checkpoint(path: Path, key: str = "checkpoint") -> dict[str, Any]:
    """The checkpoint's plain contents on the CPU; nothing in it can run code.

    Raises ValueError, naming the config key `key`, for a file that is damaged or not one of ours.
    """
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{key}={path}: damaged, or not a checkpoint; give a run directory or one of its own"
        ) from error
    if not isinstance(contents, dict) or "ropewalk" not in contents:
        raise ValueError(
            f"{key}={path}: not a checkpoint of train.py; give one of its run directories"
        )
    return contents


def network_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict of the plain network, without the Lightning module's prefix."""
    prefix = "net."
    return {
        key.removeprefix(prefix): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(prefix)
    }
