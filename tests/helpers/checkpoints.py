"""Checkpoints of a network that has never been trained, made in milliseconds."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from model import Transformer, TransformerConfig
from training.checkpoint_files import AtomicCheckpointIO

CONFIG: dict[str, Any] = {
    "position": "rope",
    "model": {"n_layers": 1, "d_model": 16, "n_heads": 2, "mlp_hidden": 16, "pattern": None},
    "rope": {"backend": "pytorch", "theta": 10000.0},
    "scaling": {"method": "none", "factor": None, "train_length": None, "options": {}},
    "data": {"corpus": "text", "path": None, "seq_len": 16},
}


@cache
def _contents() -> dict[str, Any]:
    torch.manual_seed(0)
    net = Transformer(TransformerConfig.from_config(CONFIG, vocab_size=256))
    return {
        "epoch": 0,
        "global_step": 3,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {f"net.{key}": value for key, value in net.state_dict().items()},
        "loops": {"fit_loop": {}},
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "lr_schedulers": [{}],
        "ropewalk": {
            "config": CONFIG,
            "vocab_size": 256,
            "tokenizer": {"name": "byte"},
            "fingerprint": {"corpus": "text", "sha256": "0" * 64},
        },
    }


def contents(**changed: Any) -> dict[str, Any]:
    """What such a checkpoint holds, the caller's to change; `changed`: by key, None takes it out.

    A key below another is written with two underscores: `ropewalk__config__model__d_model`.
    """
    whole = deepcopy(_contents())
    for key, value in changed.items():
        *parents, last = key.split("__")
        node = whole
        for parent in parents:
            node = node[parent]
        node.pop(last) if value is None else node.update({last: value})
    return whole


def write(path: Path, **changed: Any) -> Path:
    """Write such a checkpoint, sealed, and return its path; even one that no run would write."""
    with mock.patch("training.checkpoint_files.check_finite"):
        AtomicCheckpointIO().save_checkpoint(contents(**changed), path)
    return path
