"""A trained model out of a checkpoint, for evaluate.py and generate.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import extras  # noqa: F401 - what a checkpoint may need to be built
from cli.rundir import run_of
from data import Tokenizer, tokenizer_from_state
from model import Transformer, TransformerConfig
from training.checkpoint_contents import check_filled
from training.checkpoint_files import find_checkpoint, network_weights, read_checkpoint


@dataclass
class Trained:
    """A model as it was trained, with what belongs to it."""

    model: Transformer
    tokenizer: Tokenizer
    config: dict[str, Any]  # of the run, plain data
    path: Path
    step: int
    fingerprint: dict[str, Any]  # of the text it was trained on

    @property
    def run(self) -> Path:
        """The run's directory: the one above `checkpoints/`, at any height, or the file's own."""
        parent = self.path.resolve().parent
        if parent.name == "checkpoints":
            return parent.parent
        return run_of(self.path) or parent


def load_trained(path: str, device: torch.device) -> Trained:
    """The model of a run directory (its best checkpoint) or a checkpoint file, on `device`.

    ValueError where there is none, or where it is damaged or no whole description of a model;
    no memory is taken for one that its weights do not fill.
    """
    found = find_checkpoint(path)
    checkpoint = read_checkpoint(found)
    identity, shown = checkpoint["ropewalk"], f"checkpoint={found}"
    config = _model_config(identity, shown)
    weights = network_weights(checkpoint)
    check_filled(config, weights, shown)
    tokenizer = _tokenizer(identity, shown)
    model = Transformer(config)
    model.load_state_dict(weights)
    model = model.to(device).eval()
    step, fingerprint = checkpoint["global_step"], identity["fingerprint"]
    return Trained(model, tokenizer, identity["config"], found, step, fingerprint)


def _model_config(identity: dict[str, Any], shown: str) -> TransformerConfig:
    try:
        return TransformerConfig.from_config(identity["config"], identity["vocab_size"])
    except ValueError as error:
        lines = [f"{shown}: in its config, {line}" for line in str(error).splitlines()]
        raise ValueError("\n".join(lines)) from error


def _tokenizer(identity: dict[str, Any], shown: str) -> Tokenizer:
    try:
        tokenizer = tokenizer_from_state(identity["tokenizer"])
    except (ValueError, KeyError) as error:
        raise ValueError(f"{shown}: its tokenizer cannot be made ({error})") from error
    if tokenizer.vocab_size != identity["vocab_size"]:
        raise ValueError(
            f"{shown}: its tokenizer has {tokenizer.vocab_size} tokens, its model "
            f"{identity['vocab_size']}; give another one"
        )
    return tokenizer
