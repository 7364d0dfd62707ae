"""Why a run ended: in a word, for programs, and in words."""

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

MAX_STEPS = "max_steps"


class End(NamedTuple):
    """`kind`: max_steps, early_stopping, max_time, callback or unknown; `words` are for people."""

    kind: str
    words: str


def end_of(step: int, max_steps: int, stopper: Any, keys: Mapping[L.Callback, str]) -> End:
    """The end of a run at `step`, which `stopper` asked for; None: it is not known who did.

    `keys` are those of the user's callbacks.
    """
    if step >= max_steps:
        return End(MAX_STEPS, f"all {max_steps:,} steps")
    stopped = f"stopped early at step {step:,} of {max_steps:,}"
    if stopper is None:
        return End("unknown", stopped)
    where = keys.get(stopper, "trainer.max_time" if isinstance(stopper, Timer) else "")
    by = where or type(stopper).__name__
    if isinstance(stopper, EarlyStopping):
        kind, why = "early_stopping", f"{_early(stopper)} ({by})"
    elif isinstance(stopper, Timer):
        kind, why = "max_time", f"the time is over ({by})"
    else:
        kind, why = "callback", f"asked to by {by}"
    return End(kind, f"{stopped}: {why}")


def _early(callback: EarlyStopping) -> str:
    """Why Lightning's EarlyStopping stopped."""
    if callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED:
        count = callback.wait_count
        validations = "1 validation" if count == 1 else f"{count} validations"
        best = f"{float(callback.best_score):.4f}"
        return f"{callback.monitor} did not improve on {best} in {validations}"
    said = str(callback.stopping_reason_message).partition(" Signaling ")[0]
    return said.rstrip(".")


class KnowingTrainer(L.Trainer):
    """Lightning's Trainer that knows which object asked it to stop: `stopper`."""

    stopper: Any = None
    _stops = False

    @property
    def should_stop(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stops

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        """Callbacks set it, in a method of theirs, and Lightning does."""
        if value and not self._stops:
            self.stopper = sys._getframe(1).f_locals.get("self")
        self._stops = value
