"""Checkpoints as train.py leaves them, of models that were never trained, and their evaluation."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from cli.compose import plain
from commands import ROOT, command_here
from model import Transformer, TransformerConfig

RUN = ("data=text", "data.path=text.txt", "model.n_layers=1", "model.d_model=32", "model.n_heads=2")


@cache
def _config() -> dict[str, Any]:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return plain(compose("train", [*RUN, "data.seq_len=32"]))


def save(
    path: Path,
    seed: int,
    corpus: str = "0" * 64,
    position: str = "rope",
    step: int = 5,
    noise: float = 0,
    tokenizer: str = "byte",
    **data: object,
) -> None:
    """A checkpoint as train.py leaves it, of a model that was never trained.

    `noise`: on each weight, by other random numbers.
    """
    config = deepcopy(_config())
    config["data"] |= data
    config |= {"position": position}
    torch.manual_seed(seed)
    net = Transformer(TransformerConfig.from_config(config, 256))
    for weight in net.parameters():
        weight.data += noise * torch.randn_like(weight)
    characters = "".join(map(chr, range(256)))
    states = {"byte": {"name": "byte"}, "char": {"name": "char", "characters": characters}}
    identity = {"config": config, "vocab_size": 256, "tokenizer": states[tokenizer]}
    identity["fingerprint"] = {"corpus": "text", "sha256": corpus}
    state = {f"net.{name}": weight for name, weight in net.state_dict().items()}
    contents = {"ropewalk": identity, "state_dict": state, "global_step": step}
    (path / "checkpoints").mkdir(parents=True)
    torch.save(contents, path / "checkpoints/best.ckpt")


def evaluate(home: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    done = command_here("evaluate.py", *arguments, cwd=home)
    return done.returncode, done.stdout, done.stderr
