"""Training: the Lightning module, optimizers, callbacks, checkpoints, a run from its config."""

import logging
import warnings

from training.prepare import pick_device, prepare
from training.run import Interrupted, Run, trainer_problems

__all__ = ["Interrupted", "Run", "pick_device", "prepare", "trainer_problems"]

# What Lightning says of tips, TPUs and its own deprecations helps nobody here.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
for message in (
    r".*treespec, LeafSpec.*",
    r".*your dataloader is not resumable.*",  # ours is: a batch is a function of its number
    r".*does not have many workers.*",
):
    warnings.filterwarnings("ignore", message=message)
