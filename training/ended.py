"""Why a run ended: in a word, for programs, and in words."""

from collections.abc import Mapping
from typing import NamedTuple

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

MAX_STEPS = "max_steps"
NOT_STOPPED = EarlyStoppingReason.NOT_STOPPED


class End(NamedTuple):
    """`kind`: max_steps, early_stopping, max_time or callback; `words` are for people."""

    kind: str
    words: str


def end_of(trainer: L.Trainer, keys: Mapping[L.Callback, str]) -> End:
    """The end of a run whose training has just ended; `keys` are those of the user's callbacks."""
    step, max_steps = trainer.global_step, trainer.max_steps
    if step >= max_steps:
        return End(MAX_STEPS, f"all {max_steps:,} steps")
    stopped = f"stopped early at step {step:,} of {max_steps:,}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.stopping_reason != NOT_STOPPED:
            where = keys.get(callback, type(callback).__name__)
            return End("early_stopping", f"{stopped}: {_early(callback)} ({where})")
        if isinstance(callback, Timer) and (callback.time_remaining() or 0) <= 0:
            where = keys.get(callback, "trainer.max_time")
            return End("max_time", f"{stopped}: the time is over ({where})")
    return End("callback", f"{stopped}: a callback asked for it")


def _early(callback: EarlyStopping) -> str:
    """Why Lightning's EarlyStopping stopped."""
    if callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED:
        count = callback.wait_count
        validations = "1 validation" if count == 1 else f"{count} validations"
        best = f"{float(callback.best_score):.4f}"
        least = f" by {abs(callback.min_delta):g}" if callback.min_delta else ""
        return f"{callback.monitor} did not improve on {best}{least} in {validations}"
    said = str(callback.stopping_reason_message).partition(" Signaling ")[0]
    return said.rstrip(".")
