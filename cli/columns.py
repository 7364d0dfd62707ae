"""`as=columns`: different models side by side, each with a directory of its own for its cells."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cli.identity import identity
from cli.labels import labels_of, safe_name
from cli.subjects import Subjects
from common.files import write_json
from evaluation import CELLS, Cells, Column, Settings

MODELS = "models.json"  # which checkpoint each sub-directory is of, from the beginning on


def check_kind(directory: Path, kind: str) -> None:
    """ValueError where `directory` holds an evaluation with another `as=` than `kind`."""
    others = {"columns": CELLS, "mean": MODELS}  # what an evaluation of the other kind leaves
    if (directory / others[kind]).exists():
        other = "mean" if kind == "columns" else "columns"
        raise ValueError(
            f"output_dir={directory}: holds an evaluation with as={other}, not as={kind}; "
            f"go on with as={other}, or take another directory"
        )


def open_columns(
    chosen: Subjects,
    settings: Settings,
    documents: Sequence[np.ndarray],
    source: dict[str, Any],
    directory: Path,
) -> list[Column]:
    """A column for each checkpoint, with the cells that its sub-directory holds already.

    `settings`: with the shortest training length; the lengths and the targets that follow from it
    are those of all. ValueError where `directory` holds an evaluation of anything else.
    """
    # A model from elsewhere is known by its name, of which its config says nothing.
    configs = [{} for _ in chosen.configs] if chosen.any_foreign else chosen.configs
    labels = _claim(directory, labels_of(configs, chosen.runs), chosen.identities)
    columns = []
    for number, label in enumerate(labels):
        own = replace(settings, train_length=chosen.train_lengths[number])
        subject = chosen.subjects[number]
        known = [chosen.identities[number]]
        (directory / label).mkdir(exist_ok=True)
        what = identity(known, own, documents, source, subject.precision)
        columns.append(Column(label, subject, own, Cells(directory / label / CELLS, what)))
    return columns


def _claim(directory: Path, labels: list[str], models: list[dict[str, Any]]) -> list[str]:
    """Write down which model is where; where that stands there already, its labels.

    ValueError where other models are there, or the same in another order.
    """
    if not (directory / MODELS).exists():
        write_json(directory / MODELS, dict(zip(labels, models, strict=True)))
        return labels
    then = _read(directory / MODELS)
    if list(then.values()) != [model["sha256"] for model in models]:
        raise ValueError(
            f"output_dir={directory}: holds {', '.join(then)} side by side, not these checkpoints "
            "in this order; go on with those, or take another directory"
        )
    return list(then)


def _read(file: Path) -> dict[str, str]:
    """Label -> digest of the checkpoint."""
    try:
        models = {label: known["sha256"] for label, known in json.loads(file.read_text()).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        models = {}
    if not models or any(safe_name(label) != label for label in models):
        raise ValueError(f"output_dir={file.parent}: {file.name} in there is damaged; take another")
    return models
