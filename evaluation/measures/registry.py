"""What can be measured of a model under a method at a length, by name.

Each measure is a function in a file beside this one, imported when it is first run: the names of
all measures are known without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from common.rules import list_of, one_of, problems, refuse
from evaluation.measures.measure import Material, Measure, Task
from evaluation.measures.pooling import Figures, counted_together, worst_decoding

if TYPE_CHECKING:
    from torch import nn

DISTRACTORS = 4
FEW_PASSAGES = 4  # for measures that keep every score, or decode token by token
_DECODED_TOKEN = 16  # a token by itself takes about as long as so many of a batch


def _loss(model: nn.Module, task: Task) -> Figures:
    from evaluation.measures.loss import same_target_nll

    m = task.material
    nll = same_target_nll(
        model,
        m.passages,
        task.context,
        m.target_tokens,
        max_tokens_per_batch=task.max_tokens_per_batch,
        on_forward=task.on_forward,
    )
    if not np.isfinite(nll).all():
        raise ValueError("the loss is not finite")
    return {"nats": nll.sum(axis=1).tolist()}  # of each passage


def _trial_options(task: Task) -> dict[str, Any]:
    return {
        "context": task.context,
        "trials": task.material.trials,
        "max_tokens_per_batch": task.max_tokens_per_batch,
        "on_forward": task.on_forward,
    }


def _passkey(model: nn.Module, task: Task, distractors: int) -> Figures:
    from evaluation.measures.passkey_retrieval import measure_passkey

    documents, tokenizer = task.material.documents, task.material.tokenizer
    assert tokenizer is not None  # `needs_tokenizer`
    options = _trial_options(task) | {"beginning": task.material.beginning}
    return measure_passkey(model, documents, tokenizer, distractors=distractors, **options)


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
        max_tokens_per_batch=task.max_tokens_per_batch,
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


def _longest(lengths: list[int], _: int) -> list[int]:
    return lengths[-1:]


def _short(lengths: list[int], train_length: int) -> list[int]:
    """The longest within twice the training length: decoding a longer one takes too long."""
    return [n for n in lengths if n <= 2 * train_length][-1:] or lengths[:1]


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
    """A measure whose headline is a share of trials; each trial is `runs` passes."""
    return Measure(
        line=line,
        run=run,
        tokens=lambda material, length: runs * material.trials * length,
        figure=figure,
        headline=lambda figures: figures[figure],
        best=max,
        form="{:.1%}",
        reads=("trials",),
        **options,
    )


MEASURES: dict[str, Measure] = {
    "loss": Measure(
        line="nats per token of the same targets, with growing context",
        run=_loss,
        tokens=lambda material, length: len(material.passages) * length,
        figure="nats",
        headline=lambda figures: sum(figures["nats"]),
        best=min,
        form="{:.3f}",
        cropped=True,
        reads=("target_tokens",),
    ),
    "passkey": _of_trials(
        "share of keys of digits, hidden anywhere in a text, that are told at its end",
        partial(_passkey, distractors=0),
        "accuracy",
        cropped=True,
        needs_tokenizer=True,
        pool=counted_together,
    ),
    "distractors": _of_trials(
        f"share of keys of digits that are told, hidden among {DISTRACTORS} others in a text",
        partial(_passkey, distractors=DISTRACTORS),
        "accuracy",
        cropped=True,
        needs_tokenizer=True,
        pool=counted_together,
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
        line="nats per token at the far end of one long pass",
        run=_positions,
        tokens=lambda material, length: len(material.passages) * length,
        figure="nll",
        headline=lambda figures: figures["nll"][-1] if figures["nll"] else None,
        best=min,
        form="{:.3f}",
        lengths=_longest,
    ),
    "attention": Measure(
        line="tokens between a query and what it attends to, mean over layers and heads",
        run=_attention,
        tokens=lambda material, length: FEW_PASSAGES * length,
        figure="mean_distance",
        headline=lambda figures: float(np.mean([f["mean_distance"] for f in figures["layers"]])),
        best=None,
        form="{:,.0f}",
        lengths=_longest,
    ),
    "decode": Measure(
        line="largest difference of a token's nats, decoded through the cache and in one pass, "
        "both for the final length's factor",
        run=_decode,
        tokens=_decoded_tokens,
        figure="difference",
        headline=lambda figures: figures["difference"],
        best=None,
        form="{:.1e}",
        lengths=_short,
        pool=worst_decoding,
        reads=("target_tokens",),
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
