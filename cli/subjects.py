"""The checkpoints of one evaluation: named, found comparable, loaded when their turn has come."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cli.identity import identity, sha256
from cli.paths import listed
from cli.trained import Trained, load_trained
from evaluation import Settings, Subject, check_possible, describe, precision_of
from model import Transformer

# Keys of a config that leave the evaluated model what it is.
SAME_MODEL = ("backend", "fused_projection", "dropout")


def checkpoint_paths(text: str) -> list[str]:
    """`RUN`, or `[RUN,RUN,…]`, each verbatim or in quotes; ValueError for one named twice."""
    paths = listed(text)
    if "" in paths:
        raise ValueError(f"checkpoint={text}: must be a path, or a list of them: [runs/a,runs/b]")
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise ValueError(f"checkpoint={text}: {twice[0]} is named twice; name each once")
    return paths


class Subjects:
    """The checkpoints to measure together; `first` answers for what they share.

    `configs`, `runs`, `identities` and `subjects` go along the paths.

    One alone is read once. Of several each is read twice: here to see that all is well before
    anything is measured, and again when its turn has come, so that one model at a time is in
    memory.
    """

    def __init__(
        self, paths: Sequence[str], device: torch.device, *, same_corpus: bool, same_model: bool
    ) -> None:
        """ValueError where one cannot be read, or is not to be compared with the first.

        `same_corpus`: whether they must have been trained on the same text. `same_model`: whether
        they must differ in their weights alone.
        """
        self.subjects: list[Subject] = []
        self.identities: list[dict[str, Any]] = []
        self.configs: list[dict[str, Any]] = []
        self.runs: list[Path] = []
        alone = len(paths) == 1
        for path in paths:
            trained = load_trained(path, device if alone else torch.device("cpu"))
            if not self.subjects:
                self.first = trained
            elif reason := _difference(self.first, trained, same_corpus, same_model):
                raise ValueError(f"checkpoint={path}: {reason}")
            load = (lambda: self.first.model) if alone else _loader(path, device)
            self._add(trained, load, device)

    def _add(self, trained: Trained, load: Callable[[], Transformer], device: torch.device) -> None:
        digest = sha256(trained.path)
        if digest in [identity["sha256"] for identity in self.identities]:
            raise ValueError(
                f"checkpoint={trained.path}: holds the same as one before it; name each once"
            )
        path = trained.name or str(trained.path)
        self.configs.append(trained.config)
        self.runs.append(trained.run)
        self.identities.append({"path": path, "step": trained.step, "sha256": digest})
        self.subjects.append(
            Subject(
                digest[:16],
                path,
                trained.model.config,
                load,
                precision_of(device.type),
                describe(trained.model),
                trained.beginning,
                trained.family,
            )
        )

    @property
    def train_lengths(self) -> list[int]:
        """In tokens, of each."""
        return [config["data"]["seq_len"] for config in self.configs]

    @property
    def any_foreign(self) -> bool:
        """Whether a model was trained elsewhere, on text that nobody here knows."""
        return any(subject.family is not None for subject in self.subjects)

    def check_possible(self, methods: Sequence[str]) -> None:
        """ValueError, as of `evaluation.check_possible`, where it is raised for every model."""
        errors = []
        for subject, train_length in zip(self.subjects, self.train_lengths, strict=True):
            try:
                return check_possible(methods, subject.config, train_length)
            except ValueError as error:
                errors.append(error)
        raise errors[0]

    def identity(
        self, settings: Settings, documents: Sequence[np.ndarray], source: dict[str, Any]
    ) -> dict[str, Any]:
        """What is measured of what: the first line of `cells.jsonl`."""
        return identity(self.identities, settings, documents, source, self.subjects[0].precision)


def _difference(first: Trained, other: Trained, same_corpus: bool, same_model: bool) -> str | None:
    """Why a checkpoint is refused beside the first, and what to do; None where it is not."""
    beside = f"so that it makes no table with {first.path}"
    if first.tokenizer.state() != other.tokenizer.state():
        return f"has another tokenizer, {beside}: its passages would be others; evaluate it alone"
    if same_model and (model := _other_model(first, other)):
        return f"{model}, so that no mean is taken with {first.path}; as=columns shows both"
    corpora = [(t.fingerprint["corpus"], t.fingerprint["sha256"]) for t in (first, other)]
    if same_corpus and corpora[0] != corpora[1]:
        text = f"trained on another text ({corpora[1][0]} {corpora[1][1][:12]})"
        return f"{text}, {beside}; name the text to score, as in data=stdlib"
    return None


def _other_model(first: Trained, other: Trained) -> str | None:
    """What sets two models apart, but for their weights; None where nothing does."""
    lengths = [trained.config["data"]["seq_len"] for trained in (first, other)]
    if lengths[0] != lengths[1]:
        return f"trained at {lengths[1]} tokens, not {lengths[0]}"
    ours, theirs = (asdict(trained.model.config) for trained in (first, other))
    for key, value in theirs.items():
        if key not in SAME_MODEL and value != ours[key]:
            return f"another model ({key}={value}, not {ours[key]})"
    return None


def _loader(path: str, device: torch.device) -> Callable[[], Transformer]:
    return lambda: load_trained(path, device).model
