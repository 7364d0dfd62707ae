"""Training: the Lightning module, optimizers, callbacks, checkpoints, a run from its config."""

import logging
import warnings

from training.device import pick_device
from training.prepare import prepare
from training.run import Interrupted, Run
from training.trainer import trainer_problems

__all__ = ["Interrupted", "Run", "pick_device", "prepare", "trainer_problems"]

# Tips, TPUs and deprecations within Lightning are nothing that a user of this project can act on.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
for message in (
    r".*treespec, LeafSpec.*",
    r".*your dataloader is not resumable.*",  # ours is: a batch is a function of its number
    r".*does not have many workers.*",
):
    warnings.filterwarnings("ignore", message=message)
