"""A validation that was interrupted is done by the run that goes on."""

from typing import Any

import lightning as L


class EveryValidation(L.Callback):
    """Makes a resumed run do the validation that it owes.

    A checkpoint may be older than the validation of its step: saved before it, or when the run was
    stopped within it. Lightning goes on with the next step then; the uninterrupted run does not.
    It stands before the callbacks that save checkpoints, which carry `validated_step`.
    """

    def __init__(self) -> None:
        self.validated_step = 0
        self.owing = False  # checkpoints that are older than this class owe nothing

    def state_dict(self) -> dict[str, Any]:
        """The step of the last validation."""
        return {"validated_step": self.validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the step of the last validation."""
        self.validated_step, self.owing = state_dict["validated_step"], True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate, if the checkpoint is of a step whose validation was still to come."""
        if self.owing and self.validated_step != trainer.global_step and is_due(trainer):
            _validate(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember it."""
        self.validated_step = trainer.global_step


def is_due(trainer: L.Trainer) -> bool:
    """Whether Lightning validates after the optimizer step that has just ended."""
    if not trainer.enable_validation:
        return False
    if trainer.global_step >= trainer.max_steps:
        return True  # `training.callbacks.ending`
    batches, every = trainer.global_step * trainer.accumulate_grad_batches, trainer.val_check_batch
    return every is not None and batches % every == 0


def owes_validation(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint may be older than a validation of its step."""
    state = checkpoint.get("callbacks", {}).get(EveryValidation.__qualname__)
    return state is not None and state["validated_step"] != checkpoint["global_step"]


def _validate(trainer: L.Trainer) -> None:
    """What Lightning's training loop does between two steps."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    connector = trainer._logger_connector
    loop.restarting = False
    first, trainer.validating = connector._first_loop_iter, True
    loop.run()
    trainer.training, connector._first_loop_iter = True, first
