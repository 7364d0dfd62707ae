"""What can be measured of a model under a method at a length, by name.

Each measure is a function in a file of its own, imported when it is first run.

Shapes: P passages, S context, T target tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from common.rules import list_of, one_of, problems, refuse

if TYPE_CHECKING:
    from torch import nn

    from data import Tokenizer
    from methods.method import Method

Figures = dict[str, Any]

MAX_TOKENS_PER_BATCH = 16_384  # inputs of one forward
DISTRACTORS = 4
FEW_PASSAGES = 4  # for measures that keep every score, or decode token by token
_DECODED_TOKEN = 16  # a token by itself takes about as long as so many of a batch


@dataclass(frozen=True)
class Material:
    """The held-out text, cut and counted once for all cells.

    Attributes:
        documents: token ids, a 1-D array each.
        passages: int64 (P, longest S + 1), of the loss; their last T tokens are its targets.
        tokenizer: None where only token ids are known; the passkey measures need it.
    """

    documents: Sequence[np.ndarray]
    passages: np.ndarray
    tokenizer: Tokenizer | None
    train_length: int
    target_tokens: int
    trials: int
    max_tokens_per_batch: int


class Task(NamedTuple):
    """One cell, as a measure is asked for it."""

    material: Material
    method: Method
    context: int
    on_forward: Callable[[int], None]  # told the input tokens of each forward

    @property
    def windows(self) -> np.ndarray:
        """The passages' ends, int64 (P, S + 1)."""
        return self.material.passages[:, -(self.context + 1) :]


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
        lengths: which of the lengths that the text allows it runs at, given the training length.
        cropped: whether it can be asked of a model that sees the end of its context alone.
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


def _longest(lengths: list[int], _: int) -> list[int]:
    return lengths[-1:]


def _short(lengths: list[int], train_length: int) -> list[int]:
    """The longest within twice the training length; token by token, longer ones take too long."""
    return [n for n in lengths if n <= 2 * train_length][-1:] or lengths[:1]


def _loss(model: nn.Module, task: Task) -> Figures:
    from evaluation.measures.loss import same_target_nll

    m = task.material
    nll = same_target_nll(
        model,
        m.passages,
        task.context,
        m.target_tokens,
        max_tokens_per_batch=m.max_tokens_per_batch,
        on_forward=task.on_forward,
    )
    if not np.isfinite(nll).all():
        raise ValueError("the loss is not finite")
    return {"nats": nll.sum(axis=1).tolist()}  # of each passage


def _trial_options(task: Task) -> dict[str, Any]:
    return {
        "context": task.context,
        "trials": task.material.trials,
        "max_tokens_per_batch": task.material.max_tokens_per_batch,
        "on_forward": task.on_forward,
    }


def _passkey(model: nn.Module, task: Task, distractors: int) -> Figures:
    from evaluation.measures.passkey import measure_passkey

    m = task.material
    options = _trial_options(task)
    return measure_passkey(model, m.documents, m.tokenizer, distractors=distractors, **options)


def _copy(model: nn.Module, task: Task) -> Figures:
    from evaluation.measures.copying import measure_copy

    return measure_copy(model, task.material.documents, **_trial_options(task))


def _repeat(model: nn.Module, task: Task) -> Figures:
    from evaluation.measures.copying import measure_repeat

    return measure_repeat(model, task.material.documents, **_trial_options(task))


def _positions(model: nn.Module, task: Task) -> Figures:
    from evaluation.measures.per_position import measure_positions

    return measure_positions(
        model,
        task.windows,
        max_tokens_per_batch=task.material.max_tokens_per_batch,
        on_forward=task.on_forward,
    )


def _attention(model: nn.Module, task: Task) -> Figures:
    from evaluation.measures.attention_distance import measure_attention

    return measure_attention(
        model,
        task.windows[:FEW_PASSAGES],
        train_length=task.material.train_length,
        on_forward=task.on_forward,
    )


def _decode(model: nn.Module, task: Task) -> Figures:
    from evaluation.measures.decoding import measure_decode

    figures = measure_decode(
        model,
        task.windows[:FEW_PASSAGES],
        target_tokens=task.material.target_tokens,
        on_forward=task.on_forward,
    )
    if figures["possible"] and task.method.follows_length:
        figures["why"] = (
            "with the factor of the final length from the first token on; a factor that grew "
            "while decoding would leave keys of older frequencies in the cache"
        )
    return figures


def _decoded_tokens(material: Material, length: int) -> int:
    return FEW_PASSAGES * (2 * length + _DECODED_TOKEN * material.target_tokens)


def _of_trials(
    line: str,
    run: Callable[[nn.Module, Task], Figures],
    figure: str,
    *,
    runs: int = 1,
    **options: Any,
) -> Measure:
    return Measure(
        line,
        run,
        lambda material, length: runs * material.trials * length,
        figure,
        lambda figures: figures[figure],
        max,
        "{:.1%}",
        **options,
    )


MEASURES: dict[str, Measure] = {
    "loss": Measure(
        "nats per token of the same targets, with growing context",
        _loss,
        lambda material, length: len(material.passages) * length,
        "nats",
        lambda figures: sum(figures["nats"]),
        min,
        "{:.3f}",
        cropped=True,
    ),
    "passkey": _of_trials(
        "share of keys of digits, hidden anywhere in held-out text, that are told at its end",
        partial(_passkey, distractors=0),
        "accuracy",
        cropped=True,
        needs_tokenizer=True,
    ),
    "distractors": _of_trials(
        f"share of keys of digits that are told, hidden among {DISTRACTORS} others in a text",
        partial(_passkey, distractors=DISTRACTORS),
        "accuracy",
        cropped=True,
        needs_tokenizer=True,
    ),
    "copy": _of_trials(
        "share of a held-out passage's tokens predicted when it comes again at the end of the "
        "context, above that of an unrelated passage",
        _copy,
        "gain",
        runs=2,
        cropped=True,
    ),
    "repeat": _of_trials(
        "share of tokens predicted when the whole context comes a second time, above that after an "
        "unrelated text",
        _repeat,
        "gain",
        runs=2,
    ),
    "positions": Measure(
        "nats per token at the far end of one long pass",
        _positions,
        lambda material, length: len(material.passages) * length,
        "nll",
        lambda figures: figures["nll"][-1] if figures["nll"] else None,
        min,
        "{:.3f}",
        _longest,
    ),
    "attention": Measure(
        "tokens between a query and what it attends to, mean over layers and heads",
        _attention,
        lambda material, length: FEW_PASSAGES * length,
        "mean_distance",
        lambda figures: float(np.mean([layer["mean_distance"] for layer in figures["layers"]])),
        None,
        "{:,.0f}",
        _longest,
    ),
    "decode": Measure(
        "largest difference of a token's nats, decoded through the cache and in one pass, "
        "both for the final length's factor",
        _decode,
        _decoded_tokens,
        "difference",
        lambda figures: figures["difference"],
        None,
        "{:.1e}",
        _short,
    ),
}
DEFAULT_MEASURES = ("loss",)
_MEASURES = list_of(one_of([*MEASURES, "all"], "loss"))
MEASURES_RULE = _MEASURES._replace(holds=lambda value: value == "all" or _MEASURES.holds(value))


def check_measures(measures: Sequence[str] | str) -> list[str]:
    """The measures without repeats, in the registry's order; `all` is every one.

    Raises ValueError for one that does not exist.
    """
    refuse(problems({"measures": measures}, {"measures": MEASURES_RULE}))
    return [name for name in MEASURES if name in measures or "all" in measures]
