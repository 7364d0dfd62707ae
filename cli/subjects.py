"""The checkpoints of one evaluation: named, found comparable, loaded when their turn has come."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from cli.identity import identity, sha256
from cli.paths import listed
from cli.trained import Trained, load_trained
from evaluation import Settings, Subject, describe, precision_of
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

    Each is read twice: here to see that all is well before anything is measured, and again when
    its turn has come, so that one model at a time is in memory.
    """

    def __init__(self, paths: Sequence[str], device: torch.device, *, same_corpus: bool) -> None:
        """ValueError where one cannot be read, or is not to be compared with the first.

        `same_corpus`: whether they must have been trained on the same text.
        """
        self.subjects: list[Subject] = []
        self.identities: list[dict[str, Any]] = []
        for path in paths:
            trained = load_trained(path, torch.device("cpu"))
            if not self.subjects:
                self.first = trained
            elif reason := _difference(self.first, trained, same_corpus):
                raise ValueError(
                    f"checkpoint={path}: {reason}, so that it makes no table with {paths[0]}; "
                    "evaluate it by itself"
                )
            self._add(trained, device)

    def _add(self, trained: Trained, device: torch.device) -> None:
        digest = sha256(trained.path)
        if digest in [identity["sha256"] for identity in self.identities]:
            raise ValueError(
                f"checkpoint={trained.path}: holds the same as one before it; name each once"
            )
        path = str(trained.path)
        self.identities.append({"path": path, "step": trained.step, "sha256": digest})
        self.subjects.append(
            Subject(
                digest[:16],
                path,
                trained.model.config,
                _loader(path, device),
                precision_of(device.type),
                describe(trained.model),
            )
        )

    def identity(
        self, settings: Settings, documents: Sequence[np.ndarray], source: dict[str, Any]
    ) -> dict[str, Any]:
        """What is measured of what: the first line of `cells.jsonl`."""
        return identity(self.identities, settings, documents, source, self.subjects[0].precision)


def _difference(first: Trained, other: Trained, same_corpus: bool) -> str | None:
    """Why two checkpoints do not belong into one table, or None where they do."""
    lengths = [trained.config["data"]["seq_len"] for trained in (first, other)]
    if lengths[0] != lengths[1]:
        return f"trained at {lengths[1]} tokens, not {lengths[0]}"
    if first.tokenizer.state() != other.tokenizer.state():
        return "has another tokenizer"
    ours, theirs = (asdict(trained.model.config) for trained in (first, other))
    for key, value in theirs.items():
        if key not in SAME_MODEL and value != ours[key]:
            return f"another model ({key}={value}, not {ours[key]})"
    corpora = [(t.fingerprint["corpus"], t.fingerprint["sha256"]) for t in (first, other)]
    if same_corpus and corpora[0] != corpora[1]:
        return f"trained on another text ({corpora[1][0]} {corpora[1][1][:12]})"
    return None


def _loader(path: str, device: torch.device) -> Callable[[], Transformer]:
    return lambda: load_trained(path, device).model
