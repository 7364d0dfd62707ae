"""The result as files: JSON with everything, CSV in long form, Markdown tables."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from evaluation.extrapolation import Extrapolation
from evaluation.report.tables import Grid, grids, loss_grid, reason_lines, scored, times

CSV_FIELDS = (
    *("measure", "figure", "method", "length"),
    *("value", "ci95_low", "ci95_high", "reason"),
)
# The loss's figures and the intervals of theirs.
LOSS_CSV = {
    "nll": None,
    "bpb": "ci95",
    "difference": "difference_ci95",
    "perplexity_ratio": "perplexity_ratio_ci95",
    "tokens_per_second": None,
    "peak_memory_bytes": None,
}
RATIO_TITLE = "Perplexity over that of the model as trained at the training length"


def write_files(result: Extrapolation, directory: Path) -> None:
    """Write extrapolation.json, .csv and .md into `directory`."""
    text = json.dumps(asdict(result), indent=2, allow_nan=False) + "\n"
    write_atomically(directory / "extrapolation.json", text.encode())
    write_atomically(directory / "extrapolation.csv", long_csv(result).encode())
    write_atomically(directory / "extrapolation.md", markdown(result).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def long_csv(result: Extrapolation) -> str:
    """One line per figure, method and length; an empty field is one that was not measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for grid in grids(result):
        if grid.measure == "loss":
            for figure, ci95 in LOSS_CSV.items():
                writer.writerows(_rows(loss_grid(result, figure, ci95, "")))
        else:
            writer.writerows(_rows(grid))
    return out.getvalue()


def _rows(grid: Grid) -> Iterator[list]:
    for name, values in grid.values.items():
        for length, value, ci95 in zip(grid.lengths, values, grid.ci95[name], strict=True):
            reason = grid.reasons.get(name, {}).get(str(length))
            yield [grid.measure, grid.figure, name, length, value, *(ci95 or (None, None)), reason]


def markdown(result: Extrapolation) -> str:
    """A table of each measure with its intervals, the best of each length in bold."""
    parts = [f"# Reading past the training length of {result.train_length} tokens"]
    parts += [f"{_about(result)}."]
    for grid in grids(result):
        parts += [f"## {grid.title}", _table(grid, result.train_length)]
        if grid.measure == "loss" and result.tax:
            ratio = loss_grid(result, "perplexity_ratio", "perplexity_ratio_ci95", RATIO_TITLE)
            parts += [f"## {ratio.title}", _table(ratio, result.train_length)]
        if lines := reason_lines(grid):
            parts.append("\n".join(lines))
    legend = [f"- `{name}`: {line}" for name, line in result.protocol["methods"].items()]
    return "\n\n".join([*parts, "## Methods", "\n".join(legend)]) + "\n"


def _about(result: Extrapolation) -> str:
    text = f"Loss of {scored(result)}, in brackets 95 % intervals, best of a length in bold"
    several = len(result.checkpoints)
    return f"{text}; means over {several} checkpoints" if several > 1 else text


def _table(grid: Grid, train_length: int) -> str:
    heads = [f"{n:,} ({times(n, train_length)}×)" for n in grid.lengths]
    lines = [f"| method | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    winners = [grid.winners(i) for i in range(len(grid.lengths))]
    for name, values in grid.values.items():
        cells = [
            _cell(grid, value, grid.ci95[name][i], name in winners[i])
            for i, value in enumerate(values)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(grid: Grid, value: float | None, ci95: list[float] | None, is_best: bool) -> str:
    if value is None:
        return "–"
    text = grid.written(value)
    text = f"**{text}**" if is_best else text
    return f"{text} [{', '.join(map(grid.written, ci95))}]" if ci95 else text
