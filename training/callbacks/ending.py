"""A run ends once: one whose training has ended is not trained on when its evaluation goes on."""

from collections.abc import Mapping
from typing import Any

import lightning as L

from training.ended import End, end_of


def limits_of(config: Mapping[str, Any]) -> list[Any]:
    """What sets the end of a run of this config, plain data."""
    return [config["trainer"]["max_steps"], config["trainer"]["max_time"]]


def has_ended(checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether training to the limits of this config had ended with the checkpoint's step."""
    step, state = checkpoint["global_step"], checkpoint["callbacks"].get(Ending.__qualname__)
    return step >= config["trainer"]["max_steps"] or (
        state is not None and state["ended"] == [step, limits_of(config)]
    )


class Ending(L.Callback):
    """Stops after the last step, and remembers in checkpoints that training had ended.

    A run can end before `max_steps`: a callback of the user's, or `max_time`, may stop it. It
    stands behind the user's callbacks and before the one that saves checkpoints.
    """

    def __init__(self, limits: list[Any], keys: Mapping[L.Callback, str]) -> None:
        """`limits` set the end (`limits_of`); whoever changes them wants to train on.

        `keys`: the config keys of the user's callbacks.
        """
        self.limits, self.keys = limits, keys
        self.ended: Any = None  # the step and the limits with which training had ended
        self.end: list[str] | None = None  # and why

    def state_dict(self) -> dict[str, Any]:
        """Where training had ended, if it had, and why."""
        return {"ended": self.ended} | ({} if self.end is None else {"end": self.end})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take that up; older checkpoints do not say why."""
        self.ended = state_dict["ended"]
        match state_dict.get("end"):
            case [str(kind), str(words)]:
                self.end = [kind, words]

    def why(self, trainer: L.Trainer) -> End:
        """Why training has ended; as it was found then, where that was before a resume."""
        if self.end is not None and trainer.global_step < trainer.max_steps:
            return End(*self.end)
        return end_of(trainer, self.keys)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop before the first step, where the checkpoint is of a run that had ended."""
        if self.ended == [trainer.global_step, self.limits]:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop after the last step, since Lightning validates once more when it is told to."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember whether this was the last validation."""
        self.ended = self.end = None
        if trainer.should_stop:
            self.ended = [trainer.global_step, self.limits]
            self.end = list(self.why(trainer))
