"""Putting a method to work: `applied` is all that a measurement needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from methods.bend import bend
from methods.crop import Cropped
from methods.method import Method
from methods.registry import map_of


@contextmanager
def applied(
    method: Method, model: nn.Module, *, context: int, train_length: int
) -> Iterator[nn.Module]:
    """Within the block, what to call in place of `model` under a method at a length: the model
    changed, or a `Cropped` around it.

    A method that follows the length takes that of the whole context, whatever part of it a call
    reads: decoding through a cache uses the final length's frequencies from the first token on.
    Afterwards, come what may, the model is as it was built. `model` is a `model.Transformer`, or
    has its `config`, `set_scaling` and `set_score_scaling`.
    """
    net: Any = model
    lengths = {"context": context, "train_length": train_length}
    if method.leaves_as_trained(net.config, **lengths):
        yield model
        return
    if method.crop:
        yield Cropped(model, train_length)
        return
    try:
        if method.scaling != "none" or method.map is not None:
            net.set_scaling(**method.arguments(net.config, **lengths))
        if method.map is not None:
            bend(model, map_of(method.map, method.settings, **lengths))
        if method.logn:
            net.set_score_scaling(train_length)
        yield model
    finally:
        if method.scaling != "none" or method.map is not None:
            net.set_scaling(**net.config.scaling.arguments())
        if method.map is not None:
            bend(model, None)
        if method.logn:
            net.set_score_scaling(None)
