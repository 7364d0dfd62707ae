"""Stops a run before an optimizer step whose loss or gradient is not finite."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer


class Diverged(FloatingPointError):
    """A loss, a gradient norm, or what a checkpoint would hold, is NaN or infinite.

    Where a loss or a gradient norm is, no weight has been changed by it.
    """


@dataclass
class _Step:
    """An optimizer step that is about to be taken."""

    number: int  # from 1
    losses: Sequence[Tensor]  # of its micro-batches
    grad_norm: Tensor | None  # None where an infinite one is nothing unusual
    wrong: Tensor  # float32 (): 1 where something is not finite


class Watch:
    """Watches the optimizer steps of a run.

    Looking at the numbers of a step at once would make the host wait for the GPU. So a fused
    optimizer is told on the device to leave out a step with wrong numbers (`found_inf`, which
    gradient scaling uses too), and the host looks when the next step is due, or a checkpoint, a
    validation or a line of metrics. Any other optimizer waits.
    """

    def __init__(self, seed: int, hint: str) -> None:
        """`seed`: of the data, for the message; `hint`: what might help, likewise."""
        self.seed, self.hint = seed, hint
        self._pending: _Step | None = None

    def before_step(
        self, number: int, losses: Sequence[Tensor], grad_norm: Tensor | None, optimizer: Optimizer
    ) -> None:
        """Let step `number` change nothing if its losses or gradient norm are not finite.

        Raises Diverged, now or when the watch is asked the next time.
        """
        self.settle()
        seen = torch.stack([*losses, *([] if grad_norm is None else [grad_norm])])
        wrong = (~seen.isfinite()).any().float()
        self._pending = _Step(number, losses, grad_norm, wrong)
        if _skips_on_the_device(optimizer) and grad_norm is not None:
            optimizer.found_inf = wrong  # type: ignore[attr-defined]
        else:
            self.settle()

    def settle(self) -> None:
        """Raise Diverged if the step before had wrong numbers."""
        step, self._pending = self._pending, None
        if step is not None and step.wrong.item():
            raise Diverged(self._words(step))

    def _words(self, step: _Step) -> str:
        losses = [float(loss) for loss in step.losses]
        wrong = [i for i, loss in enumerate(losses) if not math.isfinite(loss)]
        if wrong:
            at = wrong[0]
            what, where = f"train/loss={losses[at]}", f"micro-batch {at + 1} of {len(losses)}"
        else:
            assert step.grad_norm is not None
            what, where = f"train/grad_norm={float(step.grad_norm)}", "its losses are finite"
        return (
            f"{what} at step {step.number} ({where}, seed={self.seed}): the run diverged, and "
            f"this step was not taken; {self.hint}"
        )


def check_validation(loss: float, step: int, seed: int, hint: str) -> None:
    """Raise Diverged for the loss of a validation that is not finite."""
    if not math.isfinite(loss):
        raise Diverged(f"val/loss={loss} at step {step} (seed={seed}): the run diverged; {hint}")


def _skips_on_the_device(optimizer: Optimizer) -> bool:
    group = optimizer.param_groups[0]
    return bool(group.get("fused")) and group["params"][0].is_cuda
