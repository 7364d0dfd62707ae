"""The parts of the benchmark, in the order in which they run, and the keys that each reads.

A part is imported when it runs: what a key must be is known without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from common.rules import Rule, integer, list_of, one_of, shown

if TYPE_CHECKING:
    from benchmarks.bench import Bench

_LISTS = ("parts", "cells", "peers", "step_variants", "decode_variants")
NO_GPU = "not measured: it needs a CUDA GPU, and there is none here"


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
    "decode": Part(
        ("decode_batches", "decode_tokens", "decode_variants", "decode_rounds"), needs_gpu=True
    ),
    "length": Part(("lengths", "peers", "rounds", "figures")),
    "accuracy": Part(("figures",)),
}


def run_part(name: str, settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """What a part measures, or {"skipped": why} where this machine cannot."""
    if PARTS[name].needs_gpu and bench.device.type != "cuda":
        return {"skipped": NO_GPU}
    return getattr(part_module(name), name)(settings, bench)


def part_module(name: str) -> ModuleType:
    """The file of a part, which is imported when it is first run."""
    return import_module(f"benchmarks.parts.{name}")


def rules(choices: Mapping[str, Any]) -> dict[str, Rule]:
    """The rule of every key. `choices`: the default config, whose lists hold all there is."""
    names = {key: tuple(choices[key]) for key in _LISTS}
    return {key: list_of(one_of(all_, all_[0])) for key, all_ in names.items()} | {
        "lengths": list_of(integer(1, 2**20, 512)),
        "rounds": integer(1, 10_000, 50),
        "host_calls": integer(1, 10_000_000, 10000),
        "step_batch": integer(1, 65_536, 64),
        "step_repeats": integer(1, 10_000, 10),
        "step_rounds": integer(1, 10_000, 5),
        "decode_batches": list_of(integer(1, 65_536, 8)),
        "decode_tokens": integer(1, 1_000_000, 256),
        "decode_rounds": integer(1, 10_000, 5),
    }


def without_gpu(settings: Mapping[str, Any], typed: Mapping[str, str]) -> list[str]:
    """A line where no chosen part can run without a GPU, or for overrides that only such read."""
    here = [name for name, part in PARTS.items() if not part.needs_gpu]
    chosen = [name for name in here if name in settings["parts"]]
    if not chosen:
        return [f"parts={shown(settings['parts'])}: {NO_GPU}; try parts={shown(here)}"]
    return [f"{line} ({NO_GPU})" for line in unread({**settings, "parts": chosen}, typed)]


def unread(settings: Mapping[str, Any], typed: Mapping[str, str]) -> list[str]:
    """A line for each of the user's overrides, by key, that no chosen part reads."""
    chosen = [name for name in PARTS if name in settings["parts"]]
    readers = {key: [n for n, part in PARTS.items() if key in part.reads] for key in settings}
    return [
        f"{override}: only parts={'/'.join(readers[key])} reads it; leave it out"
        for key, override in typed.items()
        if readers.get(key) and not set(readers[key]) & set(chosen)
    ]
