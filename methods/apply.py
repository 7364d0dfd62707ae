"""Putting a method to work: `applied` is all that a measurement needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from methods.bend import bend
from methods.crop import Cropped
from methods.method import Method
from methods.registry import map_of
from model import Transformer


@contextmanager
def applied(
    method: Method, model: Transformer, *, context: int, train_length: int
) -> Iterator[Transformer | Cropped]:
    """What to call for the model under a method at a length: itself, changed, or its `Cropped`.

    A method that follows the length takes that of the whole context, whatever part of it a call
    reads: decoding through a cache uses the final length's frequencies from the first token on.
    Afterwards, come what may, the model is as it was built.
    """
    lengths = {"context": context, "train_length": train_length}
    if method.leaves_as_trained(model.config, **lengths):
        yield model
        return
    if method.crop:
        yield Cropped(model, train_length)
        return
    try:
        if method.scaling != "none":
            model.set_scaling(**method.arguments(model.config, **lengths))
        if method.map is not None:
            bend(model, map_of(method.map, method.settings, **lengths))
        if method.logn:
            model.set_score_scaling(train_length)
        yield model
    finally:
        if method.scaling != "none":
            model.set_scaling(**model.config.scaling.arguments())
        if method.map is not None:
            bend(model, None)
        if method.logn:
            model.set_score_scaling(None)
