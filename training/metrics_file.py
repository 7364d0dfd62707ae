"""metrics.jsonl: what a run logs, one JSON object a line, `step` and the tags of that step."""

import json
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from common.files import write_text


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
        """Append a line and close the file: a run that is killed keeps what it wrote."""
        numbers = {name: float(value) for name, value in metrics.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")


def cut_back(path: Path, step: int) -> None:
    """Drop every line of a metrics file past `step`, and a last line that was cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    write_text(path, "".join(kept))


def latest_metrics(path: Path, step: int) -> dict[str, float]:
    """The last value of every tag up to `step`, as a run that goes on from there had them."""
    latest: dict[str, float] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        with suppress(json.JSONDecodeError):  # a last line that was cut off
            values = json.loads(line)
            latest |= values if values["step"] <= step else {}
    return {tag: value for tag, value in latest.items() if tag != "step"}
