"""What a call costs the CPU: where q and k are small, a GPU waits for launches."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.failures import recorded
from benchmarks.peers import NO_DERIVATIVE, PEERS, Peer
from benchmarks.shapes import SHAPES, Shape
from benchmarks.tables import caption, new_table, number
from benchmarks.timing import interleaved

TARGETS_US = {"no_grad": 15, "requires_grad": 25}
SMALL = 2**22  # elements of q and k together: the GPU is done before the CPU is
COMPILED = "is compiled anew for every shape: no call of its own to time"
CALLS_PER_BLOCK = 50  # of a few launches each: the launch queue, of about a thousand, never fills

HOW = (
    "median time until a call has returned, over interleaved blocks of calls with the same "
    "arguments; the GPU is waited for between blocks only; results are freed outside the time"
)


def host(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """CPU time of a call, without and with a gradient to come, for the small shapes."""
    shapes = [SHAPES[name] for name in settings["cells"] if SHAPES[name].elements <= SMALL]
    peers = {name: PEERS[name] for name in settings["peers"]}
    blocks = math.ceil(settings["host_calls"] / CALLS_PER_BLOCK)
    bench.progress.expect(len(shapes) * len(TARGETS_US))
    result: dict[str, Any] = {
        "how": HOW,
        "calls": blocks * CALLS_PER_BLOCK,
        "targets_us": TARGETS_US,
        "cells": {},
    }
    for shape in shapes:
        measured: dict[str, Any] = {"reasons": {}}
        for mode in TARGETS_US:
            bench.progress.step(f"{shape.name} {mode}")
            measured[mode], reasons = _of_shape(shape, peers, mode, blocks, bench)
            measured["reasons"] |= reasons
        result["cells"][shape.name] = measured
    return result


def _of_shape(
    shape: Shape, peers: Mapping[str, Peer], mode: str, blocks: int, bench: Bench
) -> tuple[dict[str, float], dict[str, str]]:
    """Median microseconds of every peer, and the reasons of those that have none."""
    tensors = shape.tensors(bench.device, bench.seed)
    samplers: dict[str, Callable[[], list[float]]] = {}
    reasons: dict[str, str] = {}
    for name, peer in peers.items():
        derives = peer.backward or mode == "no_grad"
        reason = peer.refusal(shape, bench.device) or (None if derives else NO_DERIVATIVE)
        reason = COMPILED if peer.compiled else reason
        if reason is not None:
            reasons[name] = reason
            continue
        with recorded(name, reasons):
            block = _sampler(peer, shape, tensors, mode)
            block()  # compiles, and warms up
            samplers[name] = block
    times = interleaved(samplers, blocks, bench.seed)
    medians = {name: round(float(np.median(times[name])), 3) for name in samplers}
    return medians, reasons


def _sampler(
    peer: Peer, shape: Shape, tensors: tuple[Tensor, Tensor], mode: str
) -> Callable[[], list[float]]:
    rotate = peer.prepare(shape, tensors[0].device)
    with_gradient = mode == "requires_grad"
    q, k = (peer.arrange(x).detach().requires_grad_(with_gradient) for x in tensors)

    def block() -> list[float]:
        torch.cuda.synchronize()
        with nullcontext() if with_gradient else torch.no_grad():
            return [call_time(lambda: rotate(q, k)) for _ in range(CALLS_PER_BLOCK)]

    return block


def call_time(call: Callable[[], object], now: Callable[[], float] = time.perf_counter) -> float:
    """Microseconds until `call` has returned; what it returns is freed after that."""
    start = now()
    result = call()
    stop = now()
    del result
    return (stop - start) * 1e6


def tables(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A table for each shape."""
    for name, cell in result["cells"].items():
        heads = (f"{mode} (target {target})" for mode, target in TARGETS_US.items())
        table = new_table(f"CPU time of a call, {name}, µs", "peer", *heads)
        for peer in dict.fromkeys(peer for mode in TARGETS_US for peer in cell[mode]):
            table.add_row(peer, *(number(cell[mode].get(peer), ".1f") for mode in TARGETS_US))
        table.caption = caption("median time until the call has returned", cell["reasons"])
        yield table
    if not result["cells"]:
        yield "host: not measured: none of the chosen cells is small enough"
