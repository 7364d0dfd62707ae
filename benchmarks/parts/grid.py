"""Cells × peers: the time of the rotation, against a copy of the same bytes and against ours.

Shapes: B batch, S sequence, H heads, D head_dim, N sampled tokens.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.cells import CELLS, THETA, Cell, length_cell, too_large
from benchmarks.oracle import exact_cos_sin, relative_errors, rotate_pairs
from benchmarks.peers import NO_DERIVATIVE, OURS, PEERS, Peer
from benchmarks.timing import Call, GpuClock, Timing, measure, median_ratio, recorded, release
from kernels import inverse_frequencies

DIRECTIONS = ("forward", "forward_backward")
CHECKED_TOKENS = 256
EMPTY_ROUNDS = 50
PLACES = 5  # in memory, of tensors that move SMALL_BYTES or less
SMALL_BYTES = 2**26

Draw = Callable[[int], tuple[Tensor, Tensor]]  # q and k of a seed

HOW = (
    f"medians over interleaved rounds; on a GPU cells that move {SMALL_BYTES} bytes or less are "
    f"prepared in {PLACES} places of memory, which take turns; of_copy and of_ours are medians of "
    "the ratios within a round, to a copy of the same bytes and to ropewalk in the same pairing; "
    "error is the greatest ‖y - exact‖ / ‖exact‖ of a head, over the checked tokens"
)


def grid(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """Forward, forward with backward, and error, in every cell that was asked for."""
    cells = [CELLS[name] for name in settings["cells"]]
    return _cells(cells, settings["peers"], bench, DIRECTIONS)


def length(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """The forward pass against the length of the sequence."""
    lengths = sorted(set(settings["lengths"]))
    result = _cells([length_cell(n) for n in lengths], settings["peers"], bench, DIRECTIONS[:1])
    return {"lengths": lengths, **result}


def _cells(
    cells: list[Cell], peers: list[str], bench: Bench, directions: tuple[str, ...]
) -> dict[str, Any]:
    chosen = {name: peer for name, peer in PEERS.items() if name in peers}
    bench.progress.expect(len(cells) * (len(chosen) + 1) * len(directions))
    result: dict[str, Any] = {"how": HOW, "checked_tokens": CHECKED_TOKENS, "cells": {}}
    if isinstance(bench.clock, GpuClock):
        result["empty_graph_us"] = bench.clock.empty_graph(EMPTY_ROUNDS)
        result["flushed_bytes"] = bench.clock.flushed.nbytes
    for cell in cells:
        reason = too_large(cell, bench.device)
        measured = {"skipped": reason} if reason else _cell(cell, chosen, bench, directions)
        result["cells"][cell.name] = measured
    return result


def _cell(
    cell: Cell, peers: Mapping[str, Peer], bench: Bench, directions: tuple[str, ...]
) -> dict[str, Any]:
    """One shape: {"bytes_moved", direction: {peer: figures}, "error": {…}, "reasons": {…}}."""
    torch.compiler.reset()  # else torch.compile gives up after some shapes of one function
    reasons = {name: peer.refusal(cell, bench.device) for name, peer in peers.items()}
    able = {name: peer for name, peer in peers.items() if reasons[name] is None}
    result: dict[str, Any] = {"bytes_moved": cell.bytes_moved}
    failed: dict[str, str] = {}
    for direction in directions:
        untimed = {name: _untimed(peer, direction, bench) for name, peer in able.items()}
        reasons |= {name: reason for name, reason in untimed.items() if reason}
        timed = {name: peer for name, peer in able.items() if untimed[name] is None}
        timings, failures = _time(cell, timed, bench, direction)
        result[direction] = _figures(timings)
        failed |= failures
        release()
    able = {name: peer for name, peer in able.items() if name not in failed}
    result["error"], failures = _errors(cell, able, bench)
    reasons |= failed | failures
    return result | {"reasons": {name: reason for name, reason in reasons.items() if reason}}


def _untimed(peer: Peer, direction: str, bench: Bench) -> str | None:
    """Why the peer, which can rotate here, has no time in this direction, or None."""
    if bench.device.type == "cpu" and peer.on_cpu == "checked":
        return "a CPU runs it in Triton's interpreter: checked, not timed"
    return NO_DERIVATIVE if direction != "forward" and not peer.backward else None


def _time(
    cell: Cell, peers: Mapping[str, Peer], bench: Bench, direction: str
) -> tuple[dict[str, Timing], dict[str, str]]:
    on_gpu = bench.device.type == "cuda"
    places = PLACES if on_gpu and cell.bytes_moved <= SMALL_BYTES else 1
    draw = partial(cell.tensors, bench.device)
    if places == 1:
        draw = cache(draw)  # there is not always room for large tensors of everyone's own
    make = _forward if direction == "forward" else _forward_backward
    return measure(
        {name: partial(make, peer, cell, draw, bench) for name, peer in peers.items()},
        bench.clock,
        bench.rounds,
        bench.seed,
        lambda name: bench.progress.step(f"{cell.name} {direction.replace('_', '+')}: {name}"),
        places,
    )


def _forward(peer: Peer, cell: Cell, draw: Draw, bench: Bench) -> Call:
    rotate = peer.prepare(cell, bench.device)
    q, k = (peer.arrange(x) for x in draw(bench.seed))

    def call() -> None:
        with torch.no_grad():
            rotate(q, k)

    return call


def _forward_backward(peer: Peer, cell: Cell, draw: Draw, bench: Bench) -> Call:
    rotate = peer.prepare(cell, bench.device)
    leaves = [peer.arrange(x).detach().requires_grad_() for x in draw(bench.seed)]
    gradients = tuple(peer.arrange(x) for x in draw(bench.seed + 1))

    def call() -> None:
        torch.autograd.grad(rotate(*leaves), leaves, gradients)

    return call


def _figures(timings: Mapping[str, Timing]) -> dict[str, dict[str, Any]]:
    """Every candidate's times, and its ratios to the copy and to ours of the same pairing."""
    figures = {}
    for name, timing in timings.items():
        ours = OURS[PEERS[name].interleaved]
        figures[name] = timing.summary() | {
            key: median_ratio(timing.times, timings[base].times) if base in timings else None
            for key, base in (("of_copy", "copy"), ("of_ours", ours))
        }
    return figures


def _errors(
    cell: Cell, peers: Mapping[str, Peer], bench: Bench
) -> tuple[dict[str, float], dict[str, str]]:
    errors: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for name, peer in peers.items():
        if peer.interleaved is None:
            continue
        with recorded(name, reasons):
            errors[name] = greatest_error(cell, peer, bench)
    return errors, reasons


def greatest_error(cell: Cell, peer: Peer, bench: Bench) -> float:
    """The greatest relative error of a head of q or k over the checked tokens; see HOW."""
    q, k = cell.tensors(bench.device, bench.seed)
    if bench.device.type == "cpu" and peer.on_cpu == "checked" and cell.seq_len > 1:
        # Triton's interpreter takes its time: one block of tokens.
        cell = replace(cell, batch=1, seq_len=min(cell.seq_len, CHECKED_TOKENS))
        q, k = q[:1, : cell.seq_len], k[:1, : cell.seq_len]
    rotate = peer.prepare(cell, bench.device)
    with torch.no_grad():
        rotated = [peer.restore(y) for y in rotate(peer.arrange(q), peer.arrange(k))]
    batch, step = _checked_tokens(cell)
    positions = cell.positions(torch.device("cpu"))
    at = step if positions is None else positions[batch, step]
    cos, sin = exact_cos_sin(at.tolist(), inverse_frequencies(cell.rotated, THETA).tolist())
    errors = []
    for x, y in zip((q, k), rotated, strict=True):
        x, y = (tensor[batch.to(x.device), step.to(x.device)].cpu() for tensor in (x, y))
        exact = rotate_pairs(x.double(), cos, sin, bool(peer.interleaved))
        errors.append(relative_errors(y, exact).max())
    worst = torch.stack(errors).max().item()
    if not math.isfinite(worst):
        raise ValueError("its result holds NaN or Inf")
    return worst


def _checked_tokens(cell: Cell) -> tuple[Tensor, Tensor]:
    """Batch and sequence index (N,) of tokens spread over the whole cell, the last one included."""
    count = min(CHECKED_TOKENS, cell.batch * cell.seq_len)
    step = torch.linspace(0, cell.seq_len - 1, count, dtype=torch.float64).round().long()
    return torch.arange(count) % cell.batch, step
