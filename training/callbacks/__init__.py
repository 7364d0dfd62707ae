"""Lightning callbacks: metrics, checkpoints, samples, progress."""

from typing import TypeVar

import lightning as L

T = TypeVar("T", bound=L.Callback)


def find(trainer: L.Trainer, kind: type[T]) -> T:
    """The trainer's own callback of a class, which every run has one of."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next(callback for callback in callbacks if isinstance(callback, kind))
