"""The first half of building a run: data and network in memory, nothing on the disk yet.

`training.run` is the second half.
"""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

from data.corpora import lasting_path
from data.module import TextDataModule
from data.sources import lasting_sources
from data.tokenizer_choice import NAMES
from data.tokenizers import SubwordTokenizer, Tokenizer, tokenizer_from_state
from kernels import resolve_backend
from model import Transformer, TransformerConfig
from training.checkpoint_contents import check_filled
from training.checkpoint_files import network_weights, read_checkpoint
from training.device import check_precision, pick_device
from training.init_from import load_weights, vocab_size_of
from training.parts import build_callbacks

# Tips, TPUs and deprecations within Lightning are nothing that a user of this project can act on.
# Its import, above, sets a level and filters of its own.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
for message in (
    r".*treespec, LeafSpec.*",
    r".*your dataloader is not resumable.*",  # ours is: a batch is a function of its number
    r".*does not have many workers.*",
):
    warnings.filterwarnings("ignore", message=message)


@dataclass
class Prepared:
    """The parts of a run that has no directory yet."""

    config: dict[str, Any]  # composed and checked, plain data
    data: TextDataModule
    net: Transformer
    model_config: TransformerConfig
    device: torch.device
    backend: str  # the one that `rope.backend=auto` means here
    callbacks: list[L.Callback]  # of the group `callbacks`, those that are not null

    def identity(self) -> dict[str, Any]:
        """What every checkpoint of the run says of itself: plain data."""
        return {
            "config": self.config,
            "vocab_size": self.model_config.vocab_size,
            "tokenizer": self.data.tokenizer.state(),
            "fingerprint": self.data.fingerprint,
        }


def prepare(config: dict[str, Any], checkpoint: Path | None = None) -> Prepared:
    """Data and network for a plain, checked config, to go on from `checkpoint` if there is one.

    ValueError for what the user got wrong.
    """
    device = pick_device(config["trainer"]["accelerator"])
    check_precision(config["trainer"]["precision"], device)
    backend = resolve_backend(config["rope"]["backend"], device)
    callbacks = list(build_callbacks(config["callbacks"] or {}).values())
    data = TextDataModule(**config["data"], seed=config["seed"])
    if checkpoint:
        data.given = _tokenizer_of(checkpoint)
    data.prepare()
    if config["data"]["path"] is not None:  # so that it is found again from anywhere
        config = config | {"data": config["data"] | {"path": lasting_path(data.origin)}}
    if config["data"]["sources"] is not None:
        config = config | {"data": config["data"] | {"sources": lasting_sources(data.sources)}}
    if (tokenizer := config["data"]["tokenizer"]) not in NAMES:
        path = str(Path(tokenizer).expanduser().absolute())
        config = config | {"data": config["data"] | {"tokenizer": path}}
    model_config = TransformerConfig.from_config(config, _vocab_size(config, data, checkpoint))
    if checkpoint:
        check_same_run(checkpoint, data, model_config)
    torch.manual_seed(config["seed"])
    net = Transformer(model_config)
    if config["init_from"] is not None and checkpoint is None:
        load_weights(net, config["init_from"], data)
    return Prepared(config, data, net, model_config, device, backend, callbacks)


def _tokenizer_of(checkpoint: Path) -> Tokenizer | None:
    """The subword tokenizer that a run began with: its file may have moved, or be another now."""
    state = read_checkpoint(checkpoint, "resume")["ropewalk"]["tokenizer"]
    return tokenizer_from_state(state) if state["name"] == SubwordTokenizer.name else None


def _vocab_size(config: dict[str, Any], data: TextDataModule, checkpoint: Path | None) -> int:
    """Of the model: that of the text's tokenizer, or of what it goes on from, which may be more."""
    if checkpoint:
        return read_checkpoint(checkpoint, "resume")["ropewalk"]["vocab_size"]
    return data.vocab_size if config["init_from"] is None else vocab_size_of(config["init_from"])


def check_same_run(checkpoint: Path, data: TextDataModule, model: TransformerConfig) -> None:
    """A resumed run must see the text that it began with, under whatever path, and its model."""
    contents = read_checkpoint(checkpoint, "resume")
    then, now = contents["ropewalk"]["fingerprint"], data.fingerprint
    if then != now:
        raise ValueError(
            f"resume={checkpoint}: the text is another one (sha256 {now['sha256'][:12]}, then "
            f"{then['sha256'][:12]}); bring it back, or start anew with init_from="
        )
    check_filled(model, network_weights(contents), f"resume={checkpoint}")
