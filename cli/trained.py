"""A trained model out of a checkpoint, for evaluate.py and generate.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import extras  # noqa: F401 - what a checkpoint may need to be built
from data import Tokenizer, tokenizer_from_state
from model import Transformer, TransformerConfig
from training.callbacks.checkpoints import find_checkpoint, network_weights, read_checkpoint


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
        """The run's directory: the one above `checkpoints/`, or the file's own."""
        parent = self.path.resolve().parent
        return parent.parent if parent.name == "checkpoints" else parent


def load_trained(path: str, device: torch.device) -> Trained:
    """The model of a run directory (its best checkpoint) or a checkpoint file, on `device`.

    ValueError where there is none, or where it is damaged.
    """
    found = find_checkpoint(path)
    checkpoint = read_checkpoint(found)
    try:
        identity = checkpoint["ropewalk"]
        config = TransformerConfig.from_config(identity["config"], identity["vocab_size"])
        model = Transformer(config)
        model.load_state_dict(network_weights(checkpoint))
        tokenizer = tokenizer_from_state(identity["tokenizer"])
        step, fingerprint = checkpoint["global_step"], identity["fingerprint"]
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"checkpoint={found}: incomplete ({reason}); take another one") from error
    model = model.to(device).eval()
    return Trained(model, tokenizer, identity["config"], found, step, fingerprint)
