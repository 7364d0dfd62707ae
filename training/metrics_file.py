"""metrics.jsonl: what a run logs, one JSON object a line, `step` and the tags of that step."""

import json
import math
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

METRICS = "metrics.jsonl"
# What reading a line raises that was cut off, damaged, or is nested without end
NO_LINE = (ValueError, KeyError, TypeError, RecursionError)


class JsonLines(Logger):
    """A Lightning logger that appends to metrics.jsonl."""

    name = "metrics"
    version = ""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kw: Any) -> None:
        """Write nothing: they stand in .hydra/config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a line and close the file: a run that is killed keeps what it wrote.

        JSON has no NaN and no infinity: such a number (a gradient's norm under float16) is null.
        """
        numbers = {name: float(value) for name, value in metrics.items()}
        finite = {name: v if math.isfinite(v) else None for name, v in numbers.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")


def latest_metrics(path: Path, step: int) -> dict[str, float]:
    """The last value of every tag up to `step`, as a run that goes on from there had them."""
    latest: dict[str, float] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for line in lines:
        with suppress(*NO_LINE):
            values = json.loads(line)
            latest |= values if values["step"] <= step else {}
    return {tag: value for tag, value in latest.items() if tag != "step"}
