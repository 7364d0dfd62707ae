"""Attention that in training reads several passages of a batch as if they were one long text.

A head without positions and without a window knows what it looks for, not where: what it must
learn for texts longer than those of training is to leave alone the many keys that are none of its
business. Here it meets them at a fraction of the cost of longer passages, since every other head
stays within its own passage. The idea is that of the Focused Transformer (Tworkowski et al. 2023,
arXiv:2307.03170), whose heads meet earlier text of their own document beside that of others; here
all passages are drawn at random.

Shapes: B batch, S sequence, C d_model, G passages read as one.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from model import RoPEAttention, TransformerConfig
from model.cache import LayerCache
from model.layers import Layer
from training.callbacks import find
from training.callbacks.checkpoints import BestAndLast
from training.phases import Phase


class CrossBatchAttention(RoPEAttention):
    """Attention, causal and without positions, that reads G passages in a row while training.

    The first of them sees itself alone, the last one all: every head meets 1 to G S keys. Half of
    the batch is read passage by passage, since short texts are to be read as well.
    """

    def __init__(self, *arguments: Any, passages: int, **settings: Any) -> None:
        """`passages`: G; the others are those of `RoPEAttention`."""
        super().__init__(*arguments, **settings)
        self.passages = passages

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        cache: LayerCache | None = None,
        cu_seqlens: Tensor | None = None,
        max_seqlen: int | None = None,
    ) -> Tensor:
        """(B, S, C) -> (B, S, C) as `RoPEAttention`; passages are read as one in training alone.

        Raises ValueError where B is no multiple of 2 G then.
        """
        whole = mask is not None or cache is not None or cu_seqlens is not None
        if not self.training or self.passages == 1 or whole:
            return super().forward(
                x,
                mask,
                positions=positions,
                cache=cache,
                cu_seqlens=cu_seqlens,
                max_seqlen=max_seqlen,
            )
        if x.shape[0] % (2 * self.passages):
            raise ValueError(
                f"tokens: a batch in training must be a multiple of 2 x model.crossbatch="
                f"{2 * self.passages}; got {x.shape[0]}"
            )
        alone, rest = x.chunk(2)
        joined = rest.unflatten(0, (-1, self.passages)).flatten(1, 2)  # (B / 2G, G S, C)
        read = super().forward(joined).unflatten(1, (self.passages, -1)).flatten(0, 1)
        return torch.cat([super().forward(alone), read])


def set_crossbatch(model: nn.Module, passages: int) -> None:
    """How many passages far heads read as one in training from now on; 1: each by itself.

    Of a model that was built with `model.crossbatch`: others have no such heads.
    """
    assert passages >= 1, passages
    far = [module for module in model.modules() if isinstance(module, CrossBatchAttention)]
    assert far, "no heads that read several passages"
    for attention in far:
        attention.passages = passages


def crossbatch_attention(
    config: TransformerConfig, layer: Layer
) -> Callable[..., RoPEAttention] | None:
    """Layers without window and positions read several passages where the config says so."""
    assert config.crossbatch is not None
    if not layer.is_far:
        return None
    return partial(CrossBatchAttention, passages=config.crossbatch)


class JoinPassages(Phase):
    """From optimizer step `start` on, far heads read `passages` passages as one; until then one.

    Among the keys of many passages a head is slow to learn what to look for; once it has learned
    that within one, the others teach it what to leave alone. The best checkpoint so far has not
    learned from that, so that the search for it begins anew.
    """

    def __init__(self, start: int, passages: int | None) -> None:
        """`passages`: None does nothing."""
        self.start, self.passages = start, passages

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """A resumed run goes on as it was."""
        if self.passages is not None:
            joined = trainer.global_step >= self.start
            set_crossbatch(pl_module.net, self.passages if joined else 1)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Before the first batch of step `start`."""
        if self.passages is not None and trainer.global_step == self.start:
            set_crossbatch(pl_module.net, self.passages)
            find(trainer, BestAndLast).forget()

    def describe(self) -> list[tuple[str, str]]:
        """Of training: the passages and the step."""
        if self.passages is None:
            return []
        return [("train", f"{self.passages} passages read as one from step {self.start:,} on")]

    def problems(self, config: Mapping[str, Any], typed: Mapping[str, str]) -> list[str]:
        """The step must be one of the run's, and the passages must fill a batch."""
        if self.passages is None:
            ignored = "has no effect without model.crossbatch; leave it out"
            override = typed.get("crossbatch_from")
            return [f"{override}: {ignored}"] if override else []
        lines = _step_problems(self.start, config["trainer"]["max_steps"])
        return lines + _batch_problems(self.passages, config["data"]["batch_size"])


def _step_problems(start: int, steps: int) -> list[str]:
    """A line where no step follows `start`."""
    if start < steps:
        return []
    return [
        f"crossbatch_from={start}: must be below trainer.max_steps={steps}, so that some steps "
        f"follow; try crossbatch_from={steps * 2 // 3}"
    ]


def _batch_problems(passages: int, size: int) -> list[str]:
    """A line where groups of passages do not fill half of a batch of `size`."""
    if size % (2 * passages) == 0:
        return []
    fitting = [n for n in range(2, passages) if size % (2 * n) == 0]
    works = f"model.crossbatch={fitting[-1]}" if fitting else f"data.batch_size={2 * passages}"
    return [
        f"model.crossbatch={passages}: twice as many passages must divide data.batch_size={size}, "
        f"half of which is read passage by passage; try {works}"
    ]
