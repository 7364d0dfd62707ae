"""report.html of a comparison: which run was best, by how much, and whether that is noise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from reports.pages.pictures import REPORT, drawn
from reports.pages.template import render

if TYPE_CHECKING:
    from reports.comparison import Comparison

ALT = {
    "curves": "Loss against the steps of training, a curve for each group of runs",
    "extrapolation": "Bits per byte against context length, a curve for each group of runs",
}


def comparison_page(comparison: Comparison, directory: Path) -> str:
    """The page of a comparison that will lie in `directory`, to which links are relative."""
    return render(
        "comparison.html",
        title=comparison.title,
        verdict=comparison.verdict,
        table=comparison.table,
        notes=comparison.notes,
        pictures=[drawn(fig, ALT.get(name, name)) for name, fig in comparison.figures.items()],
        runs=runs(comparison, directory),
        differing=comparison.differing,
        unfinished=[str(run.directory) for run in comparison.unfinished],
    )


def runs(comparison: Comparison, home: Path) -> list[dict[str, Any]]:
    """Each run: its label, a link to its own page where it has one, and its loss."""
    return [
        {
            "label": label,
            "link": link(run.directory / REPORT, home),
            "directory": str(run.directory),
            "loss": f"{run.results['val/loss']:.4f}" if run.results else "–",
        }
        for label, run in zip(comparison.labels, comparison.runs, strict=True)
    ]


def link(page: Path, home: Path) -> str | None:
    """A page as it is found from `home`; None where there is none."""
    return quote(os.path.relpath(page, home)) if page.is_file() else None
