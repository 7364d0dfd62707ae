"""DroPE: train with rotary positions, then go on without any (`drop_positions_at`).

Gelberg et al., "Extending the Context of Pretrained LLMs by Dropping Their Positional
Embeddings", arXiv:2512.12167. Optimizer and schedule go on as they are.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lightning as L

from model import ScalingConfig, Transformer
from training.callbacks import find
from training.callbacks.checkpoints import BestAndLast
from training.phases import Phase


def without_positions(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the model that such a run ends with: position=nope, nothing that bends one."""
    scaling: dict[str, Any] = {
        "method": "none",
        "factor": None,
        "train_length": None,
        "options": {},
    }
    model = config["model"] | {"random_positions": None}
    return config | {"position": "nope", "scaling": scaling, "model": model}


def drop_positions(model: Transformer) -> None:
    """Go on without positions: the model of the same weights with position=nope.

    Its `config` says so from now on, and holds no scaling and no random positions any more.
    """
    assert model.config.position == "rope", model.config.position
    model.config = replace(
        model.config, position="nope", scaling=ScalingConfig(), random_positions=None
    )
    for attention in model.attentions():
        attention.position = "nope"


class DropPositions(Phase):
    """From optimizer step `at` on: the network has no positions, and its checkpoints say so.

    The best checkpoint so far is of another model, so that the search for it begins anew.
    """

    def __init__(self, at: int | None) -> None:
        """`at`: None does nothing."""
        self.at = at

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Before the first batch of step `at`, and of a run that is resumed after it."""
        if self.at is None or trainer.global_step < self.at:
            return
        if pl_module.net.config.position == "nope":
            return
        drop_positions(pl_module.net)
        config = without_positions(pl_module.identity["config"])
        pl_module.identity = pl_module.identity | {"config": config}
        if trainer.global_step == self.at:  # else the best is one since then
            find(trainer, BestAndLast).forget()

    def final_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """Without positions, if they are dropped at all."""
        return config if self.at is None else without_positions(config)

    def describe(self) -> list[tuple[str, str]]:
        """Of the model: the step."""
        return [] if self.at is None else [("model", f"dropped at step {self.at:,}")]

    def problems(self, config: Mapping[str, Any], typed: Mapping[str, str]) -> list[str]:
        """The step must be one, and tell of a model and of steps that are there."""
        return [] if self.at is None else _tied_problems(self.at, config)


def _tied_problems(at: int, config: Mapping[str, Any]) -> list[str]:
    """Every broken rule that ties `drop_positions_at` to other keys."""
    steps, lines = config["trainer"]["max_steps"], []
    if config["position"] != "rope":
        lines.append(
            f"drop_positions_at={at}: has no effect with position={config['position']}, only "
            "rotary positions can be dropped; leave one of them out"
        )
    if config["model"]["crossbatch"] is not None:
        lines.append(
            f"drop_positions_at={at}: cannot go with model.crossbatch, which heads that dropped "
            "their positions would not follow; leave it out, or set model.crossbatch=null"
        )
    if at >= steps:
        works = f"drop_positions_at={steps * 7 // 8}" if steps > 1 else "null"
        lines.append(
            f"drop_positions_at={at}: must be below trainer.max_steps={steps}, so that some steps "
            f"follow; try {works}"
        )
    return lines
