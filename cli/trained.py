"""A trained model, of a run or from elsewhere, for evaluate.py and generate.py."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import extras  # noqa: F401 - what a checkpoint may need to be built
import hf
from cli.labels import safe_name
from cli.rundir import EVALUATIONS, run_of
from data import SubwordTokenizer, Tokenizer, tokenizer_from_state
from model import Transformer, TransformerConfig
from training.checkpoint_contents import check_filled
from training.checkpoint_files import find_checkpoint, network_weights, read_checkpoint
from training.foreign import is_foreign


@dataclass
class Trained:
    """A model as it was trained, with what belongs to it."""

    model: Transformer
    tokenizer: Tokenizer
    config: dict[str, Any]  # of the run, plain data; of one from elsewhere, what a run would have
    path: Path  # the file, or the folder of one from elsewhere
    step: int | None  # None: unknown, as the text is, of one from elsewhere
    fingerprint: dict[str, Any]  # of the text it was trained on
    name: str | None = None  # what a model from elsewhere was called
    family: str | None = None  # and its model_type

    @property
    def is_foreign(self) -> bool:
        """Whether it was trained elsewhere."""
        return self.name is not None

    @property
    def beginning(self) -> list[int]:
        """The tokens that its contexts begin with, as in the training that it had elsewhere."""
        return beginning_of(self.tokenizer, self.config, elsewhere=self.is_foreign)

    @property
    def evaluations(self) -> Path:
        """Where evaluations of it are left: in its run; of a foreign one in the working directory.

        A folder from elsewhere may be a part of the Hub's cache, to which nothing is added.
        """
        if self.name is None:
            return self.run / EVALUATIONS
        folder = Path(self.name).resolve() if os.path.exists(self.name) else Path(self.name)
        return Path(EVALUATIONS) / safe_name(folder.name)

    @property
    def run(self) -> Path:
        """The directory that it is known by: a run's, above `checkpoints/` at any height, or the
        one that a file lies in; of a foreign model its folder, or the Hub's name in its place.
        """
        if self.name is not None:
            return Path(self.name)
        parent = self.path.resolve().parent
        if parent.name == "checkpoints":
            return parent.parent
        return run_of(self.path) or parent


def beginning_of(
    tokenizer: Tokenizer, config: dict[str, Any], *, elsewhere: bool = False
) -> list[int]:
    """The tokens that a model's contexts begin with: none, where all of its training was here.

    `config`: of its run, which says whether it went on from another model.
    """
    return tokenizer.beginning if elsewhere or config.get("init_from") else []


def load_trained(path: str, device: torch.device) -> Trained:
    """The model of a run directory (its best checkpoint), a checkpoint file, a folder in Hugging
    Face's layout or a name on the Hub, on `device`.

    ValueError where there is none, or where it is damaged or no whole description of a model;
    no memory is taken for one that its weights do not fill.
    """
    return _from_elsewhere(path, device) if is_foreign(path) else _of_run(path, device)


def _from_elsewhere(name: str, device: torch.device) -> Trained:
    where = f"checkpoint={name}"
    directory = hf.find(name, where)
    tokenizer = SubwordTokenizer.from_file(directory, where)
    model = hf.load(directory, device, where=where)
    config = model.config.groups()
    config["data"] |= {"corpus": None, "path": None}  # a text must be named
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"{where}: its tokenizer has {tokenizer.vocab_size} tokens, its model "
            f"{model.config.vocab_size}; give a folder whose files belong together"
        )
    unknown = {"corpus": "", "sha256": ""}
    family = hf.read(directory, where).family.model_type
    return Trained(model, tokenizer, config, directory, None, unknown, name, family)


def _of_run(path: str, device: torch.device) -> Trained:
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
    least = 0 if tokenizer.name == "subword" else identity["vocab_size"]  # a model may have more
    if not least <= tokenizer.vocab_size <= identity["vocab_size"]:
        raise ValueError(
            f"{shown}: its tokenizer has {tokenizer.vocab_size} tokens, its model "
            f"{identity['vocab_size']}; give another one"
        )
    return tokenizer
