"""The parts of the benchmark, in the order in which they run, and the keys that each reads."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.bench import Bench
from benchmarks.parts.step import VARIANTS
from benchmarks.peers import PEERS
from benchmarks.shapes import SHAPES
from common.rules import integer

NO_GPU = "not measured: it needs a CUDA GPU, and there is none here"
LENGTH = integer(1, 2**20)


class Part(NamedTuple):
    """A file of `benchmarks/parts`; `reads` are the keys that mean something to it."""

    reads: tuple[str, ...]
    needs_gpu: bool = False


PARTS: dict[str, Part] = {
    "grid": Part(("cells", "peers", "rounds")),
    "host": Part(("cells", "peers", "host_calls"), needs_gpu=True),
    "step": Part(("step_batch", "step_variants", "step_repeats", "step_rounds"), needs_gpu=True),
    "segments": Part(("rounds",), needs_gpu=True),
    "projection": Part(("rounds",), needs_gpu=True),
    "remap": Part(("rounds",), needs_gpu=True),
    "length": Part(("lengths", "peers", "rounds")),
    "accuracy": Part(()),
}
_CHOICES: dict[str, Mapping[str, Any]] = {
    "parts": PARTS,
    "cells": SHAPES,
    "peers": PEERS,
    "step_variants": VARIANTS,
}


def run_part(name: str, settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """What a part measures, or {"skipped": why} where this machine cannot."""
    if PARTS[name].needs_gpu and bench.device.type != "cuda":
        return {"skipped": NO_GPU}
    return getattr(part_module(name), name)(settings, bench)


def part_module(name: str) -> ModuleType:
    """The file of a part, which is imported when it is first run."""
    return import_module(f"benchmarks.parts.{name}")


def problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each list of `settings` that is none, is empty, or holds what it cannot."""
    lines = _wrong_list("lengths", settings["lengths"], LENGTH.holds, LENGTH.text, 512)
    for key, names in _CHOICES.items():
        values = settings[key]
        known = tuple(names)
        typed = [str(v) for v in values if v not in known] if isinstance(values, list) else []
        near = difflib.get_close_matches(typed[0], known, n=1) if typed else []
        rule = f"one of {', '.join(known)}"
        lines += _wrong_list(key, values, known.__contains__, rule, (near or known)[0])
    return lines


def _wrong_list(
    key: str, values: object, holds: Callable[[Any], bool], rule: str, example: object
) -> list[str]:
    if isinstance(values, list) and values and all(map(holds, values)):
        return []
    shown = "null" if values is None else values
    if isinstance(values, list):
        shown = f"[{','.join(map(str, values))}]"
    return [f"{key}={shown}: must be a list of one or more, each {rule}; try {key}=[{example}]"]


def unread(settings: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """A line for each of the user's overrides that no chosen part reads."""
    chosen = [name for name in PARTS if name in settings["parts"]]
    readers = {key: [n for n, part in PARTS.items() if key in part.reads] for key in settings}
    return [
        f"{override}: only parts={'/'.join(readers[key])} reads it; leave it out"
        for override in overrides
        if readers.get(key := override.split("=")[0]) and not set(readers[key]) & set(chosen)
    ]
