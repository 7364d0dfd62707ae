"""The first half of putting a run together: everything in memory, nothing on the disk yet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from torch import nn

from data.module import TextDataModule
from kernels import resolve_backend
from model import Transformer, TransformerConfig
from training.callbacks.checkpoints import find_checkpoint, network_weights, read_checkpoint

# Weights that one way of knowing positions has and another has not.
POSITIONAL = ("position_embedding.weight", "attention.ssmax.scale")


@dataclass
class Prepared:
    """What a run consists of before it has a place on the disk."""

    config: dict[str, Any]  # composed and checked, plain data
    data: TextDataModule
    net: Transformer
    model_config: TransformerConfig
    device: torch.device
    backend: str  # the one that `rope.backend=auto` means here
    callbacks: list[L.Callback]

    def identity(self) -> dict[str, Any]:
        """What a checkpoint says of itself: plain data that loads without this code."""
        return {
            "config": self.config,
            "vocab_size": self.data.vocab_size,
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
    data = TextDataModule(**config["data"], seed=config["seed"])
    data.prepare()
    if config["data"]["path"] is not None:  # so that it is found again from anywhere
        path = str(Path(config["data"]["path"]).absolute())
        config = config | {"data": config["data"] | {"path": path}}
    if checkpoint:
        check_same_text(checkpoint, data)
    model_config = TransformerConfig.from_config(config, data.vocab_size)
    torch.manual_seed(config["seed"])
    net = Transformer(model_config)
    if config["init_from"] is not None and checkpoint is None:
        load_weights(net, config["init_from"], data)
    callbacks = build_callbacks(config["callbacks"] or {})
    return Prepared(config, data, net, model_config, device, backend, callbacks)


def build_callbacks(settings: dict[str, Any]) -> list[L.Callback]:
    """The objects of the group `callbacks`. ValueError for one that cannot be made."""
    callbacks = []
    for name, callback in settings.items():
        try:
            callbacks.append(instantiate(callback))
        except Exception as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ValueError(f"callbacks.{name}: cannot be made ({reason})") from error
    return callbacks


def pick_device(accelerator: str, key: str = "trainer.accelerator") -> torch.device:
    """The device that Lightning's `accelerator` means here.

    ValueError, naming the config key `key`, for a GPU that is absent.
    """
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"{key}={accelerator}: no CUDA GPU is visible; try {key}=auto")
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def check_precision(precision: str, device: torch.device) -> None:
    """float16 on a CPU would be run as something else by Lightning: refuse it."""
    if precision.startswith("16-") and device.type == "cpu":
        raise ValueError(
            f"trainer.precision={precision}: float16 needs a GPU; trainer.precision=bf16-mixed or "
            "32-true work on a CPU"
        )


def check_same_text(checkpoint: Path, data: TextDataModule) -> None:
    """A resumed run must see the text that it began with, under whatever path."""
    then, now = read_checkpoint(checkpoint, "resume")["ropewalk"]["fingerprint"], data.fingerprint
    if then != now:
        raise ValueError(
            f"resume={checkpoint}: the text is another one (sha256 {now['sha256'][:12]}, then "
            f"{then['sha256'][:12]}); bring it back, or start anew with init_from="
        )


def load_weights(net: nn.Module, path: str, data: TextDataModule) -> None:
    """Start `net` with the weights of another run (`init_from`).

    What belongs to a way of knowing positions is left behind, or starts anew, where that changes:
    `position=nope` from a run with RoPE is DroPE (train with positions, drop them, train on).
    """
    checkpoint = read_checkpoint(find_checkpoint(path, key="init_from"), "init_from")
    if checkpoint["ropewalk"]["tokenizer"] != data.tokenizer.state():
        raise ValueError(f"init_from={path}: that run's tokenizer is another; take its data= here")
    weights, own = network_weights(checkpoint), net.state_dict()
    for key in sorted(weights.keys() | own.keys()):
        theirs = tuple(weights[key].shape) if key in weights else "absent"
        ours = tuple(own[key].shape) if key in own else "absent"
        if key.endswith(POSITIONAL) and "absent" in (theirs, ours):
            print(f"init_from={path}: {key} is {theirs} there and {ours} here")
        elif theirs != ours:
            raise ValueError(
                f"init_from={path}: {key} is {theirs} there and {ours} here; give the same model="
            )
    net.load_state_dict(own | {key: value for key, value in weights.items() if key in own})
