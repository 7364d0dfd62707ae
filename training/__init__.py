"""Training: the Lightning module, optimizers, callbacks, checkpoints, a run from its config.

Names are imported when they are asked for, since they need torch and lightning.
"""

import logging
import warnings
from typing import TYPE_CHECKING

from common.lazy import importing

if TYPE_CHECKING:
    from training.device import pick_device
    from training.run import Interrupted, Run
    from training.trainer import trainer_problems

__all__ = ["Interrupted", "Run", "pick_device", "trainer_problems"]

__getattr__ = importing(
    __name__,
    {
        "training.device": ["pick_device"],
        "training.run": ["Interrupted", "Run"],
        "training.trainer": ["trainer_problems"],
    },
)

# Tips, TPUs and deprecations within Lightning are nothing that a user of this project can act on.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
for message in (
    r".*treespec, LeafSpec.*",
    r".*your dataloader is not resumable.*",  # ours is: a batch is a function of its number
    r".*does not have many workers.*",
):
    warnings.filterwarnings("ignore", message=message)
