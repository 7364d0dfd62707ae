"""One figure of all methods at all lengths: what every table, file and curve is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evaluation.estimates import headline_ci95
from evaluation.measures.registry import MEASURES
from evaluation.report.words import mark_words, nothing_found
from evaluation.result import Extrapolation

BPB_TITLE = "Bits per byte of the same text, with growing context"
TOKENS_TITLE = "Nats per token of the same text"
IN_WORDS = "the keys were hidden and asked for in plain words, which the model was not trained on"


@dataclass(frozen=True)
class Comparison:
    """Methods compared by one figure.

    Attributes:
        measure: a name in `MEASURES`.
        figure: which of its figures this is.
        lengths: the columns.
        values, ci95: method -> a value, and an interval, for each length; None where not run.
        reasons: method -> length as text -> why not.
        best: length as text -> the methods that are marked as better than every other; None in
            results of before there were marks.
        form: how a value is written.
    """

    measure: str
    figure: str
    title: str
    lengths: list[int]
    values: dict[str, list[float | None]]
    ci95: dict[str, list[list[float] | None]]
    reasons: dict[str, dict[str, str]]
    best: dict[str, list[str]] | None
    form: str

    def written(self, value: float) -> str:
        """A value in the comparison's form; what is rounded to zero has no sign."""
        text = self.form.format(value)
        return text.removeprefix("-") if not any(c in "123456789" for c in text) else text

    def winners(self, column: int) -> set[str]:
        """The methods of a length that are better than every other, beyond the interval."""
        return set((self.best or {}).get(str(self.lengths[column]), ()))

    def reason_lines(self) -> list[str]:
        """`- at LENGTHS (METHODS): why`, those that share a reason on one line."""
        lines = []
        unrun: dict[str, dict[str, list[str]]] = {}  # why -> length -> methods
        for name, reasons in self.reasons.items():
            for length, why in reasons.items():
                unrun.setdefault(why, {}).setdefault(length, []).append(name)
        for why, by_length in unrun.items():
            for names in dict.fromkeys(map(tuple, by_length.values())):
                lengths = ", ".join(n for n, here in by_length.items() if tuple(here) == names)
                whose = "" if len(names) == len(self.values) else f" ({', '.join(names)})"
                lines.append(f"- at {lengths}{whose}: {why}")
        return lines


def comparisons(result: Extrapolation) -> list[Comparison]:
    """One for each measure: bits per byte for the loss, the headline figure for the others."""
    found = []
    if "loss" in result.protocol.get("measures", ("loss",)):
        found.append(loss_comparison(result, "bpb", "ci95", BPB_TITLE))
    return found + [_measure_comparison(result, measure) for measure in result.measures]


def loss_comparison(
    result: Extrapolation, figure: str, ci95: str | None, title: str, form: str = "{:.3f}"
) -> Comparison:
    """One of the loss's figures, at every length; `ci95` names its interval."""
    none: list[Any] = [None] * len(result.lengths)
    methods = result.methods.items()
    return Comparison(
        measure="loss",
        figure=figure,
        title=title,
        lengths=result.lengths,
        values={name: figures.get(figure, none) for name, figures in methods},
        ci95={name: none if ci95 is None else figures.get(ci95, none) for name, figures in methods},
        reasons=result.reasons,
        best=result.best.get("loss"),
        form=form,
    )


def token_comparison(result: Extrapolation) -> Comparison | None:
    """The loss by tokens; None where a token is a byte, and the same stands in bits already."""
    p = result.protocol
    if p.get("target_bytes", 0) in (0, p["passages"] * p["target_tokens"]):
        return None
    return loss_comparison(result, "nll", None, TOKENS_TITLE)


def token_words(result: Extrapolation) -> str:
    """How the loss by tokens is to be read."""
    p = result.protocol
    size = p["target_bytes"] / (p["passages"] * p["target_tokens"])
    return (
        f"a token is {size:.2f} bytes of this text; models with other tokenizers are compared by "
        "bits per byte"
    )


def _measure_comparison(result: Extrapolation, measure: str) -> Comparison:
    """At the lengths where it was measured, or was to be."""
    kind = MEASURES[measure]
    by_method = result.measures[measure]
    reasons = result.unmeasured.get(measure, {})
    there = {int(n) for methods in (by_method, reasons) for at in methods.values() for n in at}
    lengths = [n for n in result.lengths if n in there]
    figures = {name: [by.get(str(n)) for n in lengths] for name, by in by_method.items()}
    return Comparison(
        measure=measure,
        figure=kind.figure,
        title=f"{measure}: {kind.line}",
        lengths=lengths,
        values={
            name: [None if f is None else kind.headline(f) for f in row]
            for name, row in figures.items()
        },
        ci95={
            name: [None if f is None else headline_ci95(f) for f in row]
            for name, row in figures.items()
        },
        reasons=reasons,
        best=result.best.get(measure),
        form=kind.form,
    )


def notes(comparison: Comparison, result: Extrapolation) -> list[str]:
    """What a table is to be read with: how marks are meant, and whether nothing was found."""
    marked = None if comparison.best is None else comparison.best.values()
    by_length = zip(*comparison.values.values(), strict=True)
    compared = max((sum(value is not None for value in there) for there in by_length), default=0)
    marks = mark_words(comparison.measure, marked, compared, result.protocol["passages"])
    figures = result.measures.get(comparison.measure, {})
    nothing = nothing_found(comparison.measure, figures)
    asked = any("prompt" in cell for by_length in figures.values() for cell in by_length.values())
    return [line for line in (nothing or marks, IN_WORDS if asked else None) if line]


def scored(result: Extrapolation) -> str:
    """How much text the loss is that of."""
    p = result.protocol
    return f"{p['target_tokens']} tokens in each of {p['passages']} passages"


def several_words(result: Extrapolation) -> str | None:
    """That figures are means over checkpoints, and what intervals then are of; None for one."""
    several = len(result.checkpoints)
    if several < 2:
        return None
    return f"mean of {several} checkpoints; intervals are over passages, not over checkpoints"


def times(length: int, train_length: int) -> str:
    """A length in training lengths."""
    return f"{length / train_length:.3g}"
