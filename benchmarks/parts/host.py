"""What a call costs the CPU: where cells are small, a GPU waits for launches."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.cells import CELLS, Cell
from benchmarks.peers import NO_DERIVATIVE, PEERS, Peer
from benchmarks.timing import interleaved, recorded

TARGETS_US = {"no_grad": 15, "requires_grad": 25}
SMALL = 2**22  # elements of q and k together: the GPU is done before the CPU is
COMPILED = "is compiled anew for every shape: no call of its own to time"
CALLS_PER_BLOCK = 50  # of a few launches each: the launch queue, of about a thousand, never fills

HOW = (
    "median time until a call has returned, over interleaved blocks of calls with the same "
    "arguments; the GPU is waited for between blocks only; results are freed outside the time"
)


def host(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """CPU time of a call, without and with a gradient to come, for the small cells."""
    cells = [CELLS[name] for name in settings["cells"] if CELLS[name].elements <= SMALL]
    peers = {name: PEERS[name] for name in settings["peers"]}
    blocks = math.ceil(settings["host_calls"] / CALLS_PER_BLOCK)
    bench.progress.expect(len(cells) * len(TARGETS_US))
    result: dict[str, Any] = {
        "how": HOW,
        "calls": blocks * CALLS_PER_BLOCK,
        "targets_us": TARGETS_US,
        "cells": {},
    }
    for cell in cells:
        measured: dict[str, Any] = {"reasons": {}}
        for mode in TARGETS_US:
            bench.progress.step(f"{cell.name} {mode}")
            measured[mode], reasons = _cell(cell, peers, mode, blocks, bench)
            measured["reasons"] |= reasons
        result["cells"][cell.name] = measured
    return result


def _cell(
    cell: Cell, peers: Mapping[str, Peer], mode: str, blocks: int, bench: Bench
) -> tuple[dict[str, float], dict[str, str]]:
    """Median microseconds of every peer, and the reasons of those that have none."""
    tensors = cell.tensors(bench.device, bench.seed)
    samplers: dict[str, Callable[[], list[float]]] = {}
    reasons: dict[str, str] = {}
    for name, peer in peers.items():
        derives = peer.backward or mode == "no_grad"
        reason = peer.refusal(cell, bench.device) or (None if derives else NO_DERIVATIVE)
        reason = COMPILED if peer.compiled else reason
        if reason is not None:
            reasons[name] = reason
            continue
        with recorded(name, reasons):
            block = _sampler(peer, cell, tensors, mode)
            block()  # compiles, and warms up
            samplers[name] = block
    times = interleaved(samplers, blocks, bench.seed)
    medians = {name: round(float(np.median(times[name])), 3) for name in samplers}
    return medians, reasons


def _sampler(
    peer: Peer, cell: Cell, tensors: tuple[Tensor, Tensor], mode: str
) -> Callable[[], list[float]]:
    rotate = peer.prepare(cell, tensors[0].device)
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
