"""The curves of one training in a picture: loss, learning rate, gradient, speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports.run_files import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Title, and its tags, of which the first is drawn thin where there is a second
PANELS = (
    ("loss, nats per token", ("train/loss", "val/loss")),
    ("learning rate", ("train/lr",)),
    ("norm of the gradient", ("train/grad_norm",)),
    ("training tokens per second", ("train/tokens_per_second",)),
)
WIDTH, HEIGHT, GAP = 4.0, 2.1, 0.75  # inches, of a panel


def training_figure(run: RunFiles) -> Figure | None:
    """A panel for each of `PANELS` that has two points or more; None where none has."""
    from evaluation.report.figures import style

    there = [(title, tags) for title, tags in PANELS if any(len(run.curve(t)) > 1 for t in tags)]
    if not there:
        return None
    rows = -(-len(there) // 2)
    fig = style.canvas(2 * (WIDTH + GAP) + 0.2, rows * (HEIGHT + GAP) + 0.1)
    for place, (title, tags) in enumerate(there):
        row, column = divmod(place, 2)
        bottom = (rows - 1 - row) * (HEIGHT + GAP) + 0.4
        ax = style.axes(fig, GAP + column * (WIDTH + GAP), bottom, WIDTH, HEIGHT)
        _draw(ax, run, tags)
        style.remove_frame(ax)
        ax.set_title(title, fontsize=10, loc="left", color="#333333")
    return fig


def _draw(ax: Axes, run: RunFiles, tags: Sequence[str]) -> None:
    from evaluation.report.figures.style import COLOURS, GREY

    for tag in tags:
        points = run.curve(tag)
        if not points:
            continue
        thin = tag.startswith("train/") and len(tags) > 1
        few = len(points) < 30
        ax.plot(
            *zip(*points, strict=True),
            color=GREY if thin else COLOURS[1],
            lw=1.0 if thin else 1.8,
            marker="o" if few and not thin else None,
            markersize=4,
            label=tag,
        )
    ax.ticklabel_format(style="plain", useOffset=False)
    ax.set_xlabel("step", fontsize=9, color=GREY)
    if len(tags) > 1:
        ax.legend(frameon=False, fontsize=9)
