"""The time of the rotation, shapes × peers, against a copy of the same bytes and against ours."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.clocks import Call, GpuClock
from benchmarks.failures import recorded
from benchmarks.peers import NO_DERIVATIVE, OURS, PEERS, Peer
from benchmarks.rotation_error import CHECKED_TOKENS, greatest_error
from benchmarks.shapes import Shape, too_large
from benchmarks.timing import Timing, measure, ratios, release

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


def rotation_times(
    shapes: list[Shape], peers: list[str], bench: Bench, directions: tuple[str, ...]
) -> dict[str, Any]:
    """Times of each direction ("forward", "forward_backward") and errors, of every shape."""
    chosen = {name: peer for name, peer in PEERS.items() if name in peers}
    bench.progress.expect(len(shapes) * (len(chosen) + 1) * len(directions))
    result: dict[str, Any] = {"how": HOW, "checked_tokens": CHECKED_TOKENS, "cells": {}}
    if isinstance(bench.clock, GpuClock):
        result["empty_graph_us"] = bench.clock.empty_graph(EMPTY_ROUNDS)
        result["flushed_bytes"] = bench.clock.flushed.nbytes
    for shape in shapes:
        reason = too_large(shape, bench.device)
        measured = {"skipped": reason} if reason else _of_shape(shape, chosen, bench, directions)
        result["cells"][shape.name] = measured
    return result


def _of_shape(
    shape: Shape, peers: Mapping[str, Peer], bench: Bench, directions: tuple[str, ...]
) -> dict[str, Any]:
    """One shape: {"bytes_moved", direction: {peer: figures}, "error": {…}, "reasons": {…}}."""
    torch.compiler.reset()  # else torch.compile gives up after some shapes of one function
    reasons = {name: peer.refusal(shape, bench.device) for name, peer in peers.items()}
    able = {name: peer for name, peer in peers.items() if reasons[name] is None}
    result: dict[str, Any] = {"bytes_moved": shape.bytes_moved}
    failed: dict[str, str] = {}
    for direction in directions:
        untimed = {name: _untimed(peer, direction, bench) for name, peer in able.items()}
        reasons |= {name: reason for name, reason in untimed.items() if reason}
        timed = {name: peer for name, peer in able.items() if untimed[name] is None}
        timings, failures = _time(shape, timed, bench, direction)
        result[direction] = _figures(timings)
        failed |= failures
        release()
    able = {name: peer for name, peer in able.items() if name not in failed}
    result["error"], failures = _errors(shape, able, bench)
    reasons |= failed | failures
    return result | {"reasons": {name: reason for name, reason in reasons.items() if reason}}


def _untimed(peer: Peer, direction: str, bench: Bench) -> str | None:
    """Why the peer, which can rotate here, has no time in this direction, or None."""
    if bench.device.type == "cpu" and peer.on_cpu == "checked":
        return "a CPU runs it in Triton's interpreter: checked, not timed"
    return NO_DERIVATIVE if direction != "forward" and not peer.backward else None


def _time(
    shape: Shape, peers: Mapping[str, Peer], bench: Bench, direction: str
) -> tuple[dict[str, Timing], dict[str, str]]:
    on_gpu = bench.device.type == "cuda"
    places = PLACES if on_gpu and shape.bytes_moved <= SMALL_BYTES else 1
    draw: Draw = partial(shape.tensors, bench.device)
    if places == 1:
        draw = cache(draw)  # there is not always room for large tensors of everyone's own
    make = _forward if direction == "forward" else _forward_backward
    return measure(
        {name: partial(make, peer, shape, draw, bench) for name, peer in peers.items()},
        bench.clock,
        bench.rounds,
        bench.seed,
        lambda name: bench.progress.step(f"{shape.name} {direction.replace('_', '+')}: {name}"),
        places,
    )


def _forward(peer: Peer, shape: Shape, draw: Draw, bench: Bench) -> Call:
    rotate = peer.prepare(shape, bench.device)
    q, k = (peer.arrange(x) for x in draw(bench.seed))

    def call() -> None:
        with torch.no_grad():
            rotate(q, k)

    return call


def _forward_backward(peer: Peer, shape: Shape, draw: Draw, bench: Bench) -> Call:
    rotate = peer.prepare(shape, bench.device)
    leaves = [peer.arrange(x).detach().requires_grad_() for x in draw(bench.seed)]
    gradients = tuple(peer.arrange(x) for x in draw(bench.seed + 1))

    def call() -> None:
        torch.autograd.grad(rotate(*leaves), leaves, gradients)

    return call


def _figures(timings: Mapping[str, Timing]) -> dict[str, dict[str, Any]]:
    """Every peer's times, and its ratios to the copy and to ours of the same pairing."""
    figures = {}
    for name, timing in timings.items():
        bases = {"of_copy": "copy", "of_ours": OURS[PEERS[name].interleaved]}
        figures[name] = timing.summary() | ratios(timing, timings, bases)
    return figures


def _errors(
    shape: Shape, peers: Mapping[str, Peer], bench: Bench
) -> tuple[dict[str, float], dict[str, str]]:
    errors: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for name, peer in peers.items():
        if peer.interleaved is None:
            continue
        with recorded(name, reasons):
            errors[name] = greatest_error(shape, peer, bench)
    return errors, reasons
