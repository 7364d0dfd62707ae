"""What the groups `callbacks` and `logger` must be, as far as it is known without Lightning.

What is not is told by `training.parts`, which makes the objects.
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from common.plain import leads_out
from common.rules import BOOLEAN, at_least, integer, number, of, optional, problems, shown, text

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
WANDB, MLFLOW = "training.loggers.Wandb", "training.loggers.Mlflow"
_SERVER = of(
    "null, or the address of a server",
    lambda v: v is None or (isinstance(v, str) and re.match("https?://.", v) is not None),
    "http://localhost:5000",
)
WANDB_RULES = {"project": text("ropewalk"), "offline": BOOLEAN}
MLFLOW_RULES = {"experiment_name": text("ropewalk"), "tracking_uri": _SERVER}
_RULES = {
    SAMPLES: SAMPLES_RULES,
    TENSORBOARD: TENSORBOARD_RULES,
    WANDB: WANDB_RULES,
    MLFLOW: MLFLOW_RULES,
}
_PACKAGES = {WANDB: "wandb", MLFLOW: "mlflow"}


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
    package = _PACKAGES.get(target)
    if package is not None and not _is_installed(package):
        return [f"logger={package}: needs the package {package}; pip install '.[loggers]'"]
    lines = problems(entry, _RULES.get(target, {}), f"{key}.")
    return lines or (_leading_out(key, entry) if key.startswith("logger.") else [])


def _is_installed(package: str) -> bool:
    """Whether it can be imported; a mere folder of that name, as wandb makes them, is none."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def _leading_out(key: str, entry: Mapping[str, Any]) -> list[str]:
    """A line for each argument of a logger that it would write elsewhere by."""
    return [
        f"{key}.{name}={shown(value)}: must stay inside the run's directory; leave it out"
        for name, value in entry.items()
        if leads_out(value)
    ]
