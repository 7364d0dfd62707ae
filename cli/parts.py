"""What the groups `callbacks` and `logger` must be, as far as it is known without Lightning.

What is not is told by `training.parts`, which makes the objects.
"""

from collections.abc import Mapping
from typing import Any

from common.plain import leads_out
from common.rules import BOOLEAN, at_least, integer, number, of, optional, problems, shown

SAMPLES = "training.callbacks.samples.Samples"
SAMPLES_RULES = {
    "every_n_validations": at_least(1, 1),
    "max_new_tokens": integer(1, 10_000, 160),  # drawn one by one, while training waits
    "temperature": number(0, 1e6, 0.8),
    "prompt_tokens": integer(1, 2**20, 16),
}

TENSORBOARD = "lightning.pytorch.loggers.TensorBoardLogger"
_TEXT = of("text", lambda v: isinstance(v, str), "tensorboard")
TENSORBOARD_RULES = {
    "name": optional(_TEXT),
    "version": optional(_TEXT),
    "default_hp_metric": BOOLEAN,
    "log_graph": of("false: the model has no example input", lambda v: v is False, "false"),
}
_RULES = {SAMPLES: SAMPLES_RULES, TENSORBOARD: TENSORBOARD_RULES}


def part_problems(config: Mapping[str, Any]) -> list[str]:
    """A line for each entry that is neither null nor a class with its arguments."""
    lines = []
    for group in ("callbacks", "logger"):
        for name, entry in (config[group] or {}).items():
            lines += _entry_problems(f"{group}.{name}", entry)
    return lines


def _entry_problems(key: str, entry: Any) -> list[str]:
    if entry is None:  # without it
        return []
    if not isinstance(entry, Mapping):
        return [f"{key}={shown(entry)}: must be a class, {key}._target_=…, or {key}=null"]
    target = entry.get("_target_")
    if not isinstance(target, str) or "." not in target:
        return [
            f"{key}._target_={shown(target)}: must be a class, as in "
            "lightning.pytorch.callbacks.Timer"
        ]
    lines = problems(entry, _RULES.get(target, {}), f"{key}.")
    return lines or (_leading_out(key, entry) if key.startswith("logger.") else [])


def _leading_out(key: str, entry: Mapping[str, Any]) -> list[str]:
    """A line for each argument of a logger that it would write elsewhere by."""
    return [
        f"{key}.{name}={shown(value)}: must stay inside the run's directory; leave it out"
        for name, value in entry.items()
        if leads_out(value)
    ]
