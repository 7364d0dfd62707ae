"""report.html of a run: what it was asked, how it learned, what it found."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from common.files import write_text
from reports.pages.pictures import REPORT, Picture, drawn, lying_in
from reports.pages.template import render
from reports.run_files import RunFiles

# What the pictures of an extrapolation show; a run has some of them
PICTURES = {
    "extrapolation": "Bits per byte against context length, a curve for each method",
    "ratio": "Perplexity over that at the training length, against context length",
    "positions": "Loss by position in the text, a curve for each method",
    "passkey": "Share of passkeys found against context length",
    "passkey-depth": "Share of passkeys found by depth and context length",
    "copy": "Share of a string copied right against context length",
    "attention": "How far back each layer looks",
    "spectrum": "How fast each pair of dimensions turns, under each method",
    "remaps": "The distance that each method gives to a key, against its real one",
}


class Cell(NamedTuple):
    """A cell of a table; `interval` and `note` may be empty."""

    text: str
    interval: str = ""
    best: bool = False


class Results(NamedTuple):
    """A table with what is to be noted on it."""

    title: str
    heads: list[str]
    rows: list[tuple[str, list[Cell]]]
    notes: list[str]


def write_run_page(directory: Path, results: dict[str, Any], formats: str | Sequence[str]) -> Path:
    """Write report.html of the run in `directory`, whole or not at all; returns its path.

    `results` are those that results.json will hold, `formats` those of the run's pictures.
    ValueError where one of the run's files is damaged.
    """
    page = run_page(RunFiles.read(directory, results), formats)
    write_text(directory / REPORT, page)
    return directory / REPORT


def run_page(run: RunFiles, formats: str | Sequence[str]) -> str:
    """The page of a finished run."""
    assert run.results is not None, "a run has results when its page is made"
    return render(
        "run.html",
        title=f"{run.config.get('name') or 'run'} / {run.directory.absolute().name}",
        headline=headline(run.results),
        typed=run.overrides,
        curves=curves(run),
        tables=[] if run.extrapolation is None else tables(run.extrapolation),
        methods=methods(run.extrapolation),
        pictures=lying_in(run.directory, PICTURES, formats),
        samples=samples(run.samples),
        config=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
        results=json.dumps(run.results, indent=2),
        environment=environment(run.environment),
        commands=commands(run),
    )


def headline(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What is read first: name, figure, and what it is."""
    step, rate = results.get("best_step"), results.get("tokens_per_second")
    mfu = results.get("mfu")
    shown: list[tuple[str, str, Any, str]] = [
        ("val/loss", "{:.4f}", results.get("val/loss"), f"nats per token, best: step {step}"),
        ("val/bpb", "{:.3f}", results.get("val/bpb"), "bits per byte"),
        ("tokens/s", "{:,.0f}", rate, f"training, {mfu:.1%} of the peak" if mfu else "training"),
        ("seconds", "{:,.0f}", results.get("seconds"), "start to end"),
        ("parameters", "{:,}", results.get("parameters"), f"{results.get('rope/backend')} backend"),
        ("steps", "{:,}", results.get("steps"), f"{results.get('tokens') or 0:,} tokens"),
    ]
    return [(name, form.format(value), what) for name, form, value, what in shown if value]


def curves(run: RunFiles) -> Picture | None:
    """The curves of training."""
    from reports.pages.curves import PANELS, training_figure

    fig = training_figure(run)
    what = ", ".join(title for title, _ in PANELS)
    return None if fig is None else drawn(fig, f"Against the steps of training: {what}")


def tables(extrapolation: Mapping[str, Any]) -> list[Results]:
    """A table of each measure, methods by contexts."""
    from evaluation.report.comparison import Comparison, comparisons, notes, times
    from evaluation.report.words import sentence
    from evaluation.result import Extrapolation

    result = Extrapolation(**extrapolation)

    def row(comparison: Comparison, name: str) -> list[Cell]:
        pairs = zip(comparison.values[name], comparison.ci95[name], strict=True)
        return [
            Cell("–")
            if value is None
            else Cell(
                comparison.written(value),
                " to ".join(map(comparison.written, ci95)) if ci95 else "",
                name in comparison.winners(place),
            )
            for place, (value, ci95) in enumerate(pairs)
        ]

    return [
        Results(
            title=comparison.title,
            heads=[f"{n:,} ({times(n, result.train_length)}×)" for n in comparison.lengths],
            rows=[(name, row(comparison, name)) for name in comparison.values],
            notes=[
                *map(sentence, notes(comparison, result)),
                *(line.removeprefix("- ") for line in comparison.reason_lines()),
            ],
        )
        for comparison in comparisons(result)
    ]


def methods(extrapolation: Mapping[str, Any] | None) -> dict[str, str]:
    """A line on each method."""
    return dict((extrapolation or {}).get("protocol", {}).get("methods", {}))


def samples(text: str) -> list[Any]:
    """What the model wrote, the last first."""
    from training.samples_file import read_samples

    return read_samples(text)[::-1]


def environment(found: Mapping[str, Any]) -> dict[str, str]:
    """Where and with what the run was made, a line each."""
    flat = {k: v for k, v in found.items() if k != "versions" and v is not None}
    return {name: str(value) for name, value in {**flat, **found.get("versions", {})}.items()}


def commands(run: RunFiles) -> list[tuple[str, str]]:
    """How to go on: what for, and the command."""
    where, results = str(run.directory), run.results or {}
    steps = 2 * int(results.get("steps") or 1)

    def line(*words: str) -> str:
        return shlex.join(words)

    return [
        (
            "Measure it further",
            line("python", "evaluate.py", f"checkpoint={where}", "measures=all"),
        ),
        ("Let it write", line("python", "generate.py", f"checkpoint={where}", "prompt=Once")),
        (
            "Train it longer",
            line("python", "train.py", f"resume={where}", f"trainer.max_steps={steps}"),
        ),
        ("Begin another run with its weights", line("python", "train.py", f"init_from={where}")),
        ("See its curves", line("tensorboard", "--logdir", where)),
    ]
