"""Training: the Lightning module, optimizers, callbacks, checkpoints, a run from its config.

Names are imported when they are asked for, since they need torch and lightning.
"""

from typing import TYPE_CHECKING

from common.lazy import importing

if TYPE_CHECKING:
    from training.device import pick_device
    from training.run import Run

__all__ = ["Run", "pick_device"]

__getattr__ = importing(
    __name__,
    {
        "training.device": ["pick_device"],
        "training.run": ["Run"],
    },
)
