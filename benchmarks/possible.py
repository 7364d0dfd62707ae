"""What was asked for and cannot be measured on this machine: known before a file is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.peers import PEERS
from benchmarks.registry import without_gpu
from benchmarks.shapes import SHAPES, Shape, length_shape, too_large
from common.rules import shown


def impossible(
    settings: Mapping[str, Any], typed: Mapping[str, str], device: torch.device
) -> list[str]:
    """A line for each key of which nothing can be measured on `device`; `typed`: overrides by key.

    Where some of it can, the rest is left out with its reason.
    """
    lines = [] if device.type == "cuda" else without_gpu(settings, typed)
    if lines:
        return lines
    by_key: dict[str, list[Shape]] = {}
    if {"grid", "host"} & set(settings["parts"]):
        by_key["cells"] = [SHAPES[name] for name in settings["cells"]]
    if "length" in settings["parts"]:
        by_key["lengths"] = [length_shape(n) for n in settings["lengths"]]
    for key, shapes in by_key.items():
        lines += _all_too_large(f"{key}={shown(settings[key])}", shapes, device)
    shapes = [shape for some in by_key.values() for shape in some]
    return lines or _no_peer(settings["peers"], shapes, device)


def _all_too_large(typed: str, shapes: Sequence[Shape], device: torch.device) -> list[str]:
    reasons = [too_large(shape, device) for shape in shapes]
    return [f"{typed}: {reasons[0]}; leave it out"] if all(reasons) else []


def _no_peer(peers: Sequence[str], shapes: Sequence[Shape], device: torch.device) -> list[str]:
    """A line where no peer rotates any of the shapes here."""
    reasons = [PEERS[name].refusal(shape, device) for name in peers for shape in shapes]
    if not reasons or not all(reasons):
        return []
    return [f"peers={shown(peers)}: {reasons[0]}; try peers=[copy,ropewalk]"]
