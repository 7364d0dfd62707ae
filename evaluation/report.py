"""What a person sees of an extrapolation: files, a terminal table, a figure, TensorBoard curves.

Lower bits per byte are better throughout. matplotlib and tensorboard are imported by the functions
that draw and log, so that a command's start does not wait for them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from evaluation.extrapolation import Extrapolation
from evaluation.figures.loss import loss_figure
from evaluation.figures.style import pixels as _pixels
from evaluation.figures.style import png as _png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TAG = "extrapolation/bpb"
FIGURE_TAG = "extrapolation/figure"
CSV_FIELDS = ("method", "length", "nll", "bpb", "ci95_low", "ci95_high", "reason")


def write_report(result: Extrapolation, directory: str | Path) -> None:
    """Write extrapolation.json, .csv and .png into `directory`, each whole or not at all."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(result), indent=2, allow_nan=False) + "\n"
    _write(directory / "extrapolation.json", text.encode())
    _write(directory / "extrapolation.csv", _csv(result).encode())
    _write(directory / "extrapolation.png", _png(figure(result)))


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _csv(result: Extrapolation) -> str:
    """One line per method and length; an empty field is a figure that was not measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for name, values in result.methods.items():
        columns = zip(result.lengths, values["nll"], values["bpb"], values["ci95"], strict=True)
        for length, nll, bpb, ci95 in columns:
            low, high = ci95 or (None, None)
            reason = result.reasons.get(name, {}).get(str(length))
            writer.writerow([name, length, nll, bpb, low, high, reason])
    return out.getvalue()


def table(result: Extrapolation) -> Table:
    """Bits per byte, methods × lengths; the best method of each length is bold with a star."""
    grid = Table(title="Bits per byte of the same text, with growing context")
    grid.caption = "\n".join(_captions(result))
    grid.caption_justify = "left"
    grid.add_column("method")
    for length in result.lengths:
        grid.add_column(f"{length} ({_times(length, result.train_length)}x)", justify="right")
    best = [_best(result, i) for i in range(len(result.lengths))]
    for name, values in result.methods.items():
        cells = [_mark(bpb, name in best[i]) for i, bpb in enumerate(values["bpb"])]
        grid.add_row(Text(name), *cells)
    return grid


def legend(result: Extrapolation) -> str:
    """A line on what each method does."""
    lines = result.protocol["methods"]
    width = max(map(len, lines), default=0)
    return "\n".join(f"{name:{width}}  {line}" for name, line in lines.items())


def _best(result: Extrapolation, index: int) -> set[str]:
    """The methods with the lowest loss at a length; none where nothing sets them apart."""
    measured = {name: values["bpb"][index] for name, values in result.methods.items()}
    measured = {name: bpb for name, bpb in measured.items() if bpb is not None}
    if len(set(measured.values())) < 2:
        return set()
    return {name for name, bpb in measured.items() if bpb == min(measured.values())}


def _mark(bpb: float | None, is_best: bool) -> Text:
    if bpb is None:
        return Text("-", style="dim")
    return Text(f"* {bpb:.3f}", style="bold green") if is_best else Text(f"{bpb:.3f}")


def _captions(result: Extrapolation) -> Iterator[str]:
    p = result.protocol
    yield "* best of its length; lower is better"
    yield f"{_scored(result)}; trained at {result.train_length}"
    unrun: dict[str, dict[str, list[str]]] = {}  # why -> length -> methods
    for name, reasons in result.reasons.items():
        for length, why in reasons.items():
            unrun.setdefault(why, {}).setdefault(length, []).append(name)
    for why, by_length in unrun.items():
        for names in dict.fromkeys(map(tuple, by_length.values())):
            lengths = ", ".join(n for n, here in by_length.items() if tuple(here) == names)
            whose = "" if len(names) == len(result.methods) else f" ({', '.join(names)})"
            yield f"- at {lengths}{whose}: {why}"
    if p["passages"] < p["passages_asked"] and p["passages"]:
        yield f"({p['passages_asked']} passages asked; the text holds {p['passages']})"


def _scored(result: Extrapolation) -> str:
    p = result.protocol
    return f"{p['target_tokens']} tokens in each of {p['passages']} passages"


def _times(length: int, train_length: int) -> str:
    return f"{length / train_length:.3g}"


def figure(result: Extrapolation) -> Figure:
    """Bits per byte against context length, a curve and its 95 % band per method."""
    return loss_figure(asdict(result))


def log_tensorboard(result: Extrapolation, directory: str | Path) -> None:
    """Log each method as a sub-run `directory/<method>`, so that one chart overlays them.

    The step is the context length. The figure goes to the sub-run `extrapolation`. Logging again
    into the same directory replaces what TensorBoard shows.
    """
    from torch.utils.tensorboard import SummaryWriter

    directory = Path(directory)
    for name, values in result.methods.items():
        with SummaryWriter(str(directory / name), purge_step=0) as writer:
            for length, bpb in zip(result.lengths, values["bpb"], strict=True):
                if bpb is not None:
                    writer.add_scalar(TAG, bpb, length)
    with SummaryWriter(str(directory / "extrapolation"), purge_step=0) as writer:
        writer.add_image(FIGURE_TAG, _pixels(figure(result)), 0, dataformats="HWC")
