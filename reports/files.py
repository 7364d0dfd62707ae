"""A comparison as files: JSON with everything, CSV with a line for each run, Markdown to read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.files import write_json, write_text
from reports.comparison import Comparison, Table
from reports.contexts import bits_of, curves
from reports.groups import seed_of
from reports.pages.comparison_page import comparison_page
from reports.pages.pictures import REPORT
from reports.terminal import narrowed

# Of results.json, as far as a run has them
FIGURES = (
    *("val/loss", "val/bpb", "val/loss_last", "train/loss", "best_step", "steps", "tokens"),
    *("tokens_per_second", "mfu", "parameters", "seconds", "rope/backend", "text"),
)


def write_files(comparison: Comparison, directory: Path) -> None:
    """Write comparison.json, .csv and .md, and report.html, each whole or not at all."""
    write_json(directory / "comparison.json", plain(comparison))
    write_text(directory / "comparison.csv", _unicode(as_csv(comparison)))
    write_text(directory / "comparison.md", _unicode(markdown(comparison)))
    write_text(directory / REPORT, comparison_page(comparison, directory))


def _unicode(text: str) -> str:
    """`text` with a mark for each byte of a file's name that is no Unicode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def plain(comparison: Comparison) -> dict[str, Any]:
    """All of it as plain data."""
    by, means = comparison.comparable, comparison.compared
    return {
        "title": comparison.title,
        "verdict": comparison.verdict,
        "notes": comparison.notes,
        "compared_by": by.figure,
        "clear_best": comparison.groups[means.best].label if means and means.clear else None,
        "paired_by_seed": means.paired if means else None,
        "degrees_of_freedom": means.df if means else None,
        "differing": [*comparison.differing],
        "groups": [_group(comparison, i) for i in range(len(comparison.groups))],
        "runs": [_run(comparison, i) for i in range(len(comparison.runs))],
        "unfinished": [
            {"label": label, "run_dir": str(run.directory)}
            for label, run in zip(
                comparison.labels_of_unfinished, comparison.unfinished, strict=True
            )
        ],
    }


def _group(comparison: Comparison, place: int) -> dict[str, Any]:
    group = comparison.groups[place]
    figures: dict[str, Any] = {}
    for key, means in comparison.means.items():
        figures[key] = {
            "mean": means.means[place],
            "ci95": means.ci95 and list(means.ci95[place]),
            "above_best": means.above[place],
            "above_best_ci95": means.above_ci95 and list(means.above_ci95[place]),
        }
    return {
        "label": group.label,
        "values": group.values,
        "seeds": [*group.runs],
        "figures": figures,
        "tokens_per_second": group.mean("tokens_per_second"),
        "seconds": group.mean("seconds"),
        "bpb": {m: {str(n): bits for n, bits in at.items()} for m, at in curves(group).items()},
    }


def _run(comparison: Comparison, place: int) -> dict[str, Any]:
    run = comparison.runs[place]
    results = run.results or {}
    return {
        "label": comparison.labels[place],
        "values": {key: values[place] for key, values in comparison.differing.items()},
        "seed": seed_of(run),
        **{key: results.get(key) for key in FIGURES},
        "bpb": {m: {str(n): bits for n, bits in at.items()} for m, at in bits_of(run).items()},
        "run_dir": str(run.directory),
    }


def as_csv(comparison: Comparison) -> str:
    """A line for each run: its label, what differs, its figures; an empty field is unknown."""
    rows = [_run(comparison, i) for i in range(len(comparison.runs))]
    bits = list(dict.fromkeys((m, n) for row in rows for m, at in row["bpb"].items() for n in at))
    keys = [key for key in comparison.differing if key != "seed"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = ["label", *keys, "seed", *FIGURES, *(f"bpb/{m}/{n}" for m, n in bits), "run_dir"]
    writer.writerow(heads)
    for row in rows:
        writer.writerow(
            [
                row["label"],
                *(row["values"][key] for key in keys),
                row["seed"],
                *(row[key] for key in FIGURES),
                *(row["bpb"].get(m, {}).get(n) for m, n in bits),
                row["run_dir"],
            ]
        )
    return out.getvalue()


def markdown(comparison: Comparison, width: int | None = None) -> str:
    """Verdict and tables, to read; `width`: characters that there is room for."""
    table = narrowed(comparison.table, width)[0] if width else comparison.table
    parts = [f"# {comparison.title}"]
    parts.append("\n".join(f"- {_escaped(line)}" for line in comparison.verdict))
    parts.append(_markdown_table(table))
    parts += [_escaped(line.replace("* lower", "In bold: lower")) for line in comparison.notes]
    if comparison.single is not None:
        parts += ["## Each run", _markdown_table(comparison.single)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(_bold, cells))} |"

    rule = "|---" * len(table.heads) + "|"
    return "\n".join([line(table.heads), rule, *map(line, table.rows)])


def _bold(cell: str) -> str:
    """The best one bold, and nothing in a cell that Markdown reads."""
    text = _escaped(cell.removeprefix("*"))
    return f"**{text}**" if cell.startswith("*") else text


def _escaped(text: str) -> str:
    for sign in "\\|*_<`":
        text = text.replace(sign, f"\\{sign}")
    return text
