"""The result as files: JSON with everything, CSV in long form, Markdown tables, pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from common.figures import Formats
from common.files import write_text
from evaluation.report.comparison import (
    Comparison,
    comparisons,
    loss_comparison,
    notes,
    scored,
    several_words,
    times,
    token_comparison,
    token_words,
)
from evaluation.report.figures import draw_all
from evaluation.report.setting import setting_json, setting_words
from evaluation.report.words import sentence
from evaluation.result import Extrapolation

if TYPE_CHECKING:
    from model import TransformerConfig

CSV_FIELDS = (
    *("measure", "figure", "method", "length"),
    *("value", "ci95_low", "ci95_high", "reason"),
)
# The loss's figures, each with the name of its interval.
LOSS_CSV = {
    "nll": None,
    "bpb": "ci95",
    "difference": "difference_ci95",
    "perplexity_ratio": "perplexity_ratio_ci95",
    "tokens_per_second": None,
    "peak_memory_bytes": None,
}
RATIO_TITLE = "Perplexity over that of the model as trained at the training length"


def write_report(
    result: Extrapolation,
    directory: str | Path,
    config: TransformerConfig | None = None,
    formats: Formats = "png",
) -> None:
    """Write extrapolation.json, .csv, .md and the pictures, each whole or not at all.

    `config` is the model's; without it there is no picture of the frequencies. `formats` are the
    pictures' (`common.figures`).
    """
    directory = Path(directory)
    plain = asdict(result)
    text = json.dumps(plain, indent=2, allow_nan=False) + "\n"
    write_text(directory / "extrapolation.json", text)
    write_text(directory / "extrapolation.csv", long_csv(result))
    write_text(directory / "extrapolation.md", markdown(result))
    draw_all(plain, config, directory, formats)


def long_csv(result: Extrapolation) -> str:
    """One line per figure, method and length; an empty field is one that was not measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for comparison in comparisons(result):
        if comparison.measure == "loss":
            for figure, ci95 in LOSS_CSV.items():
                writer.writerows(_rows(loss_comparison(result, figure, ci95, "")))
        else:
            writer.writerows(_rows(comparison))
    return out.getvalue()


def _rows(c: Comparison) -> Iterator[list]:
    for name, values in c.values.items():
        for length, value, ci95 in zip(c.lengths, values, c.ci95[name], strict=True):
            reason = c.reasons.get(name, {}).get(str(length))
            yield [c.measure, c.figure, name, length, value, *(ci95 or (None, None)), reason]


def markdown(result: Extrapolation) -> str:
    """A table of each measure with its intervals, and in bold what is better than every other."""
    parts = [f"# Reading past the training length of {result.train_length} tokens"]
    parts += [f"{_about(result)}."]
    for comparison in comparisons(result):
        parts += _section(comparison, result.train_length)
        if comparison.measure == "loss" and result.tax:
            keys = ("perplexity_ratio", "perplexity_ratio_ci95")
            parts += _section(loss_comparison(result, *keys, RATIO_TITLE), result.train_length)
        if comparison.measure == "loss" and (by_token := token_comparison(result)):
            parts += _section(by_token, result.train_length)
            parts.append(sentence(token_words(result)))
        parts += map(sentence, notes(comparison, result))
        if lines := comparison.reason_lines():
            parts.append("\n".join(lines))
    if words := setting_words(result):
        parts += ["## Setting", words]
        if line := setting_json(result):
            parts.append(f"```json\n{line}\n```")
    legend = [f"- `{name}`: {line}" for name, line in result.protocol["methods"].items()]
    return "\n\n".join([*parts, "## Methods", "\n".join(legend)]) + "\n"


def _about(result: Extrapolation) -> str:
    several = several_words(result)
    text = f"Loss of {scored(result)}, in brackets 95 % intervals"
    return f"{text}; {several}" if several else text


def _section(comparison: Comparison, train_length: int) -> list[str]:
    """Title and table."""
    heads = [f"{n:,} ({times(n, train_length)}×)" for n in comparison.lengths]
    lines = [f"| method | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    winners = [comparison.winners(i) for i in range(len(comparison.lengths))]
    for name, values in comparison.values.items():
        row = [
            _written(comparison, value, comparison.ci95[name][i], name in winners[i])
            for i, value in enumerate(values)
        ]
        lines.append(f"| {name} | {' | '.join(row)} |")
    return [f"## {comparison.title}", "\n".join(lines)]


def _written(
    comparison: Comparison, value: float | None, ci95: list[float] | None, is_best: bool
) -> str:
    if value is None:
        return "–"
    text = comparison.written(value)
    text = f"**{text}**" if is_best else text
    return f"{text} [{', '.join(map(comparison.written, ci95))}]" if ci95 else text
