"""A run's directory, read as plain data: what it was asked, what it logged, what it found.

Nothing in it is trusted to be whole or of today: an older run has fewer keys, one that was killed
has no results, and a last line may be cut off.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from common.plain import plain_problem

CONFIG = Path(".hydra/config.yaml")  # a directory that has it holds a run
GROUPS = ("data", "trainer")  # of the config, whose keys are asked for by name
# Of results.json, where they are there: what tables and pages write as numbers
FIGURES = ("steps", "tokens", "tokens_per_second", "seconds", "parameters", "mfu", "best_step")
MOST_BYTES = 2**18  # of a config; one of ours has a hundredth of it


@dataclass(frozen=True)
class RunFiles:
    """What lies in a run's directory.

    Attributes:
        config: nested, as it was composed.
        overrides: what the user typed for this run, as lines.
        results: results.json; None where the run is not finished.
        metrics: the lines of metrics.jsonl, each with its `step`.
        extrapolation: extrapolation.json; None where it was not measured.
        environment: environment.json; empty where there is none.
        samples: the text of samples.txt.
    """

    directory: Path
    config: dict[str, Any]
    overrides: list[str]
    results: dict[str, Any] | None
    metrics: list[dict[str, Any]]
    extrapolation: dict[str, Any] | None
    environment: dict[str, Any]
    samples: str

    @classmethod
    def read(cls, directory: Path, results: dict[str, Any] | None = None) -> RunFiles:
        """The run in `directory`; `results`: those of a run that has not written them yet.

        ValueError where the directory holds no run, or a file in it is damaged.
        """
        if not (directory / CONFIG).is_file():
            raise ValueError(
                f"{directory}: holds no run; give a directory that train.py has printed, "
                "e.g. runs/NAME/TIMESTAMP"
            )
        if results is None:
            results = _json(directory / "results.json")
        return cls(
            directory=directory,
            config=_config(directory / CONFIG),
            overrides=_overrides(directory / CONFIG.with_name("overrides.yaml")),
            results=None if results is None else _checked(results, directory / "results.json"),
            metrics=_metrics(directory / "metrics.jsonl"),
            extrapolation=_extrapolation(directory / "extrapolation.json"),
            environment=_json(directory / "environment.json") or {},
            samples=_text(directory / "samples.txt"),
        )

    def curve(self, tag: str) -> list[tuple[int, float]]:
        """(step, value) of each line of metrics.jsonl that has the tag."""
        return [(line["step"], line[tag]) for line in self.metrics if _is_number(line.get(tag))]


def is_run(directory: Path) -> bool:
    """Whether a run has begun in `directory`."""
    return (directory / CONFIG).is_file()


def _damaged(path: Path, why: object) -> ValueError:
    return ValueError(f"{path}: is damaged ({why}); leave this run out, or train it again")


def _json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no file."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no object")
    return content


def _checked(results: dict[str, Any], path: Path) -> dict[str, Any]:
    """Results whose figures are numbers; what an older run has not is not asked for."""
    for key in ("val/loss", "val/bpb"):
        if not _is_number(results.get(key)):
            raise _damaged(path, f"{key} is no number")
    for key in FIGURES:
        if results.get(key) is not None and not _is_number(results[key]):
            raise _damaged(path, f"{key} is no number")
    if not isinstance(results.get("text"), str | None):
        raise _damaged(path, "text is no digest")
    return results


def _extrapolation(path: Path) -> dict[str, Any] | None:
    """What was measured, with its two parts of the right form."""
    found = _json(path)
    if found is None:
        return None
    lengths, methods = found.get("lengths"), found.get("methods")
    if not isinstance(lengths, list) or not all(map(_is_number, lengths)):
        raise _damaged(path, "lengths is no list of numbers")
    if not isinstance(methods, dict) or not all(isinstance(m, dict) for m in methods.values()):
        raise _damaged(path, "methods is no object of objects")
    if not isinstance(found.get("protocol", {}), dict) or not _is_number(found.get("train_length")):
        raise _damaged(path, "train_length is no number, or protocol no object")
    for method, figures in methods.items():
        bits = figures.get("bpb", [])
        if not isinstance(bits, list) or not all(b is None or _is_number(b) for b in bits):
            raise _damaged(path, f"bpb of {method} is no list of numbers")
    return found


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _damaged(path, f"more than {MOST_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise _damaged(path, "it refers to parts of itself")
        config = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (yaml.YAMLError, RecursionError, UnicodeError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    if not isinstance(config, dict) or not config:
        raise _damaged(path, "it holds no keys")
    if problem := plain_problem(config):
        raise _damaged(path, problem)
    if wrong := [key for key in GROUPS if not isinstance(config.get(key, {}), dict)]:
        raise _damaged(path, f"{wrong[0]} is no group of keys")
    return {str(key): value for key, value in config.items()}


def _overrides(path: Path) -> list[str]:
    try:
        lines = yaml.safe_load(_text(path)) or []
    except (yaml.YAMLError, RecursionError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    return [str(line) for line in lines] if isinstance(lines, list) else []


def _metrics(path: Path) -> list[dict[str, Any]]:
    """Whole lines, in the order of their steps; one that was cut off is left out."""
    lines = []
    for text in _text(path).splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return sorted(lines, key=lambda line: line["step"])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
