"""What a measure is: what it is given, what it gives, and how its figures are shown.

Shapes: P passages, S context, T target tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from evaluation.measures.pooling import Figures, mean_figures

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from data import Tokenizer
    from methods.method import Method


# Inputs of one forward by default. Larger batches are no faster on a CPU; on a GPU short ones wait
# for the launches of kernels.
TOKENS_PER_BATCH, ON_A_GPU = 4096, 32_768


@dataclass(frozen=True)
class Material:
    """The held-out text, cut and counted once for all cells.

    Attributes:
        documents: token ids, a 1-D array each.
        passages: int64 (P, longest S + 1), of the loss; their last T tokens are its targets.
        tokenizer: None where only token ids are known; the passkey measures need it.
        beginning: the tokens that stand for the first ones of every context.
    """

    documents: Sequence[np.ndarray]
    passages: np.ndarray
    tokenizer: Tokenizer | None
    train_length: int
    target_tokens: int
    trials: int
    max_tokens_per_batch: int | None  # None: what suits the device
    beginning: Sequence[int] = ()


class Task(NamedTuple):
    """One cell, as a measure is asked for it."""

    material: Material
    method: Method
    context: int
    on_forward: Callable[[int], None]  # told the input tokens of each forward
    max_tokens_per_batch: int

    @property
    def windows(self) -> np.ndarray:
        """The passages' ends, int64 (P, S + 1), with the tokens that contexts begin with."""
        ends = self.material.passages[:, -(self.context + 1) :]
        if not self.material.beginning:
            return ends
        ends = ends.copy()
        first = ends[:, : len(self.material.beginning)]
        first[:] = self.material.beginning[: first.shape[1]]
        return ends


class Measure(NamedTuple):
    """An entry of the registry.

    Attributes:
        line: what it is, for a legend.
        run: the figures, plain data, of a model that is under the method already.
        tokens: about how many tokens its forwards read, for the time left.
        figure: what the headline is called.
        headline: the one figure that stands for it in tables and curves, None where there is none.
        best: min or max of the headline; None where neither is better.
        form: how the headline is written.
        lengths: at which of the lengths that the text allows it runs, given the training length.
        cropped: whether it can be asked of a model that sees the end of its context alone.
        needs_tokenizer: whether it writes text of its own.
        pool: makes one of the figures of several checkpoints.
        reads: the settings that mean something to some measures only, and to this one.
    """

    line: str
    run: Callable[[nn.Module, Task], Figures]
    tokens: Callable[[Material, int], int]
    figure: str
    headline: Callable[[Figures], float | None]
    best: Callable[..., float] | None
    form: str
    lengths: Callable[[list[int], int], list[int]] = lambda lengths, _: lengths
    cropped: bool = False
    needs_tokenizer: bool = False
    pool: Callable[[Sequence[Figures]], Figures] = mean_figures
    reads: tuple[str, ...] = ()
