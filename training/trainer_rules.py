"""What the keys under `trainer` must be: Lightning's own names, ruled before it is imported."""

import re
from collections.abc import Mapping
from typing import Any

from common.rules import (
    BOOLEAN,
    above,
    at_least,
    integer,
    of,
    one_of,
    optional,
    problems,
    shown,
    unknown,
)

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
# Several processes would each claim the run's directory: not supported yet.
_ONE = of("1: a run takes one device", lambda v: v == 1 and v is not True, 1)


def _is_time(value: object) -> bool:
    """Days, hours, minutes and seconds, not all of them zero."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,5}(:[0-9]{2}){3}", value):
        return False
    return bool(value.strip("0:"))


_TRAINER = "lightning.pytorch.Trainer"
RULES = {
    "_target_": one_of((_TRAINER,), _TRAINER),
    "max_steps": at_least(1, 450),
    "val_check_interval": at_least(1, 150),
    "log_every_n_steps": at_least(1, 10),
    "accumulate_grad_batches": integer(1, 2**16, 1),  # nothing is shown within a step
    "gradient_clip_val": optional(above(0, 1.0)),
    "precision": one_of(PRECISIONS, "auto"),
    "accelerator": one_of(("auto", "cpu", "gpu", "cuda", "mps"), "auto"),
    "devices": _ONE,
    "num_nodes": _ONE,
    "strategy": one_of(("auto",), "auto"),
    "deterministic": of(
        "true, false or warn", lambda v: isinstance(v, bool) or v == "warn", "true"
    ),
    "detect_anomaly": BOOLEAN,
    "max_time": optional(of("a time above zero, DD:HH:MM:SS", _is_time, "00:08:00:00")),
    "profiler": optional(one_of(("simple", "advanced"), "simple")),
}
# Lightning's other keys, and what to do instead. Each would be ignored here, or break a promise:
# steps are counted and never epochs, batches follow from the step, validations are whole.
REFUSED = {
    "max_epochs": "steps are counted here, never epochs; use trainer.max_steps",
    "min_epochs": "steps are counted here, never epochs; use trainer.max_steps",
    "min_steps": "a run trains to its last step; use trainer.max_steps",
    "check_val_every_n_epoch": "steps are counted here; use trainer.val_check_interval",
    "reload_dataloaders_every_n_epochs": "a batch follows from its step; leave it out",
    "limit_train_batches": "steps are counted here; use trainer.max_steps",
    "limit_val_batches": "every validation is a whole one, and a checkpoint follows it; use "
    "data.val_tokens for a smaller one, trainer.val_check_interval for fewer",
    "limit_test_batches": "nothing is tested here; use evaluate.py and its passages",
    "limit_predict_batches": "nothing is predicted here; use generate.py",
    "overfit_batches": "a batch follows from its step; use data=text data.path=a-short-text.txt",
    "fast_dev_run": "it would leave no checkpoint; use trainer.max_steps=2",
    "barebones": "it would leave no figures; use logger=none callbacks=none",
    "num_sanity_val_steps": "a validation follows the first steps; use trainer.val_check_interval",
    "gradient_clip_algorithm": "gradients are clipped by their norm; use trainer.gradient_clip_val",
    "benchmark": "it is for convolutions, of which there are none; leave it out",
    "sync_batchnorm": "there is no batch norm in the model; leave it out",
    "inference_mode": "validation needs no gradients; leave it out",
    "use_distributed_sampler": "a batch follows from its step; leave it out",
    "enable_checkpointing": "the best and the last checkpoint are always written; leave it out",
    "enable_progress_bar": "use callbacks=none for a run without",
    "enable_model_summary": "the size is in the first lines of a run; leave it out",
    "enable_autolog_hparams": "they are logged with the results; leave it out",
    "default_root_dir": "use run_dir",
    "logger": "use the group logger: logger=none, or +logger.mine._target_=…",
    "callbacks": "use the group callbacks: callbacks=none, or +callbacks.mine._target_=…",
    "plugins": "checkpoints are written by train.py itself; leave it out",
    "model_registry": "it belongs to a service of Lightning's; leave it out",
}


def trainer_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each key of the group `trainer` that cannot be set, or not to this value."""
    lines = problems(settings, RULES, "trainer.")
    for key in sorted(settings.keys() & REFUSED.keys()):
        lines.append(f"trainer.{key}={shown(settings[key])}: cannot be set here; {REFUSED[key]}")
    return lines + unknown(sorted(settings.keys() - REFUSED.keys()), RULES, "trainer.")
