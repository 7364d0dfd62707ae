"""The figures of each part as tables in the terminal."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table

from benchmarks.parts.host import TARGETS_US

SHOWN_EXPONENTS = (0, 10, 17, 20, 24, 31, 40)


def tables(part: str, result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What a person sees of a part's result."""
    if reason := result.get("skipped"):
        yield f"{part}: {reason}"
    else:
        yield from _TABLES[part](result)


def _grid(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    for name, cell in result["cells"].items():
        if not cell.get("skipped"):
            yield _cell(name, cell)
    yield from _skipped(result)


def _cell(name: str, cell: Mapping[str, Any]) -> Table:
    columns = ("× copy", "× ours")
    grid = _table(f"Rotating q and k, {name}, µs", "peer", "forward", *columns, "fwd+bwd", *columns)
    grid.add_column("error", justify="right")
    directions = [cell["forward"], cell["forward_backward"]]
    for peer in dict.fromkeys([*directions[0], *directions[1], *cell["error"]]):
        row = []
        for figures in (direction.get(peer, {}) for direction in directions):
            row += [_time(figures.get("median_us"))]
            row += [_number(figures.get(key), ".2f") for key in ("of_copy", "of_ours")]
        grid.add_row(peer, *row, _number(cell["error"].get(peer), ".1e"))
    notes = "× copy: of copying the same bytes; × ours: of ropewalk in the same pairing"
    notes += "; medians of ratios within a round"
    grid.caption = _caption(notes, cell["reasons"])
    return grid


def _skipped(result: Mapping[str, Any]) -> Iterator[str]:
    reasons = {name: cell.get("skipped") for name, cell in result["cells"].items()}
    for reason, names in _by_reason(reasons):
        yield f"not measured: {names}: {reason}"


def _length(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    cells = dict(zip(result["lengths"], result["cells"].values(), strict=True))
    measured = {n: cell for n, cell in cells.items() if not cell.get("skipped")}
    if measured:
        heads = (f"{n:,}" for n in measured)
        grid = _table("Forward against sequence length, µs", "peer", *heads)
        for peer in dict.fromkeys(peer for cell in measured.values() for peer in cell["forward"]):
            times = (cell["forward"].get(peer, {}) for cell in measured.values())
            grid.add_row(peer, *(_time(t.get("median_us")) for t in times))
        reasons = {k: v for cell in measured.values() for k, v in cell["reasons"].items()}
        grid.caption = _caption("4 sequences, 32 heads of q and 8 of k, of 128, bf16", reasons)
        yield grid
    yield from _skipped(result)


def _host(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    for name, cell in result["cells"].items():
        heads = (f"{mode} (target {target})" for mode, target in TARGETS_US.items())
        grid = _table(f"CPU time of a call, {name}, µs", "peer", *heads)
        for peer in dict.fromkeys(peer for mode in TARGETS_US for peer in cell[mode]):
            grid.add_row(peer, *(_number(cell[mode].get(peer), ".1f") for mode in TARGETS_US))
        grid.caption = _caption("median time until the call has returned", cell["reasons"])
        yield grid
    if not result["cells"]:
        yield "host: not measured: none of the chosen cells is small enough"


def _step(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    heads = ("ms", "fastest", "slowest round", "tokens/s", "over nope")
    grid = _table("A training step of the 124M model", "variant", *heads)
    for name, figures in result["variants"].items():
        rounds = figures["rounds_ms"]
        times = [f"{ms:.2f}" for ms in (figures["median_ms"], min(rounds), max(rounds))]
        over = _number(figures["over_nope"], "+.2%")
        grid.add_row(name, *times, f"{figures['tokens_per_second']:,}", over)
    notes = f"{result['tokens_per_step']:,} tokens a step; nope: no positions"
    grid.caption = _caption(notes, result["reasons"])
    yield grid


def _segments(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    heads = ("µs", "× copy", "× one segment")
    grid = _table(f"Packed sequences, {result['cell']}", "segments", *heads)
    for name, figures in result["segments"].items():
        ratios = (_number(figures[key], ".3f") for key in ("of_copy", "of_one_segment"))
        grid.add_row(name, _time(figures["median_us"]), *ratios)
    grid.caption = _caption("forward, segments of random lengths", result["reasons"])
    yield grid


def _projection(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    for width, cell in result["widths"].items():
        title = f"Projection of {result['tokens']:,} tokens, {width} wide, and the rotation"
        grid = _table(title, "way", "µs", "× F.linear")
        for name, figures in cell["ways"].items():
            grid.add_row(name, _time(figures["median_us"]), _number(figures["of_linear"], ".3f"))
        grid.caption = _caption("forward, bf16, heads of 64", cell["reasons"])
        yield grid


def _remap(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    for seq_len, cell in result["lengths"].items():
        title = f"Attention over {int(seq_len):,} tokens, {result['shape']}, and its rotations"
        grid = _table(title, "way", "µs", "× plain", "peak MiB")
        for name, figures in cell["ways"].items():
            peak = figures["peak_memory_bytes"]
            mebibytes = _number(None if peak is None else peak / 2**20, ",.1f")
            ratio = _number(figures["of_plain"], ".3f")
            grid.add_row(name, _time(figures["median_us"]), ratio, mebibytes)
        notes = f"forward, bf16; remaps as set for a model trained at {result['train_length']}"
        grid.caption = _caption(notes, cell["reasons"])
        yield grid


def _accuracy(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    heads = (f"2^{exponent}" for exponent in SHOWN_EXPONENTS)
    grid = _table("Relative error of the rotated vector, by position", "angles", *heads)
    for name, errors in result["relative_error"].items():
        grid.add_row(name, *(f"{errors[exponent]:.1e}" for exponent in SHOWN_EXPONENTS))
    for name, errors in result.get("angle_error", {}).items():
        cells = (f"{errors[exponent]:.1e}" for exponent in SHOWN_EXPONENTS)
        grid.add_row(f"{name}, radians", *cells)
    grid.caption = _caption(
        "float32 heads of 128; radians: error of the angle, float32 roundings included",
        result["reasons"],
    )
    yield grid


_TABLES: dict[str, Callable[[Mapping[str, Any]], Iterator[RenderableType]]] = {
    "grid": _grid,
    "host": _host,
    "step": _step,
    "segments": _segments,
    "projection": _projection,
    "remap": _remap,
    "length": _length,
    "accuracy": _accuracy,
}


def _table(title: str, first: str, *columns: str) -> Table:
    """An empty table that fits, in most cases, into 80 columns."""
    grid = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
    grid.min_width, grid.title_justify, grid.caption_justify = 76, "left", "left"
    grid.add_column(first, no_wrap=True)
    for column in columns:
        grid.add_column(column, justify="right", overflow="fold")
    return grid


def _time(us: float | None) -> str:
    return _number(us, ",.0f" if us is not None and us >= 1000 else ".1f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _caption(notes: str, reasons: Mapping[str, str]) -> str:
    """The notes, and who was left out, once for each reason."""
    return "\n".join([notes, *(f"{names}: {reason}" for reason, names in _by_reason(reasons))])


def _by_reason(reasons: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Every reason, with the names that it stands for in a row."""
    for reason in dict.fromkeys(filter(None, reasons.values())):
        yield reason, ", ".join(name for name, its in reasons.items() if its == reason)
