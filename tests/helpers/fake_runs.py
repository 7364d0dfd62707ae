"""Run directories written as files, for what reads them and never asks how they came about."""

import json
from pathlib import Path
from typing import Any

import yaml

TEXT = "a" * 64
LENGTHS = [32, 64, 128]


def write_run(
    directory: Path,
    loss: float | None = 3.0,
    *,
    typed: tuple[str, ...] = (),
    results: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    methods: tuple[str, ...] = ("none", "yarn"),
    passages: int = 3,
    **config: Any,
) -> Path:
    """A finished run that ended at `loss`, or with None an unfinished one.

    `config`: keys of the config, with `__` for the dot; `results`, `environment`: what these files
    say besides; `typed`: the lines of overrides.yaml.
    """
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra/config.yaml").write_text(yaml.safe_dump(_config(config)))
    (directory / ".hydra/overrides.yaml").write_text(yaml.safe_dump(list(typed)))
    surroundings = {"device": "cpu", "python": "3.11.7", "command": "python train.py x=1,2 -m"}
    write_json(directory / "environment.json", surroundings | (environment or {}))
    lines = [
        {"step": step, tag: (loss or 3.0) + 4 / step}
        for step in range(10, 101, 10)
        for tag in ("train/loss", "val/loss")
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if loss is None:
        return directory
    bpb = {"bpb": [loss + i / 10 for i in range(len(LENGTHS))]}
    protocol = {"passages": passages, "target_tokens": 16, "target_bytes": 48}
    extrapolation = {"train_length": 32, "lengths": LENGTHS, "protocol": protocol}
    extrapolation["methods"] = dict.fromkeys(methods, bpb)
    write_json(directory / "extrapolation.json", extrapolation)
    figures = {"val/loss": loss, "val/bpb": loss / 0.6931471805599453, "train/loss": loss}
    figures |= {"steps": 100, "tokens": 12800, "tokens_per_second": 1000.0, "seconds": 12.0}
    figures |= {"text": TEXT, "run_dir": str(directory)}
    write_json(directory / "results.json", figures | (results or {}))
    return directory


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def _config(flat: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "seed": 0,
        "name": "fake",
        "position": "rope",
        "model": {"n_layers": 2, "d_model": 32},
        "rope": {"backend": "auto"},
        "data": {"corpus": "stdlib", "path": None, "tokenizer": "byte", "val_tokens": 4096},
        "optimizer": {"lr": 0.001},
        "trainer": {"max_steps": 100, "log_every_n_steps": 10},
    }
    for key, value in flat.items():
        *groups, last = key.split("__")
        inner = config
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return config
