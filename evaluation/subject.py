"""A model to measure: where it comes from, what sets it apart, and how to load it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from evaluation.precision import precision_of


@dataclass(frozen=True)
class Subject:
    """A model that is loaded when its turn has come.

    Attributes:
        key: names its cells; a digest of the checkpoint, say.
        path: where it came from, for the reader; None for a model in memory.
        config: the model's `config`.
        load: returns the model, on the device where it is to run.
        precision: what it computes in, in words.
        about: what sets it apart, plain data: position, theta, parameters, ….
        beginning: the tokens that each of its contexts begins with.
        family: the model_type of one that was trained elsewhere, for Hugging Face's libraries.
    """

    key: str
    path: str | None
    config: Any
    load: Callable[[], nn.Module]
    precision: str
    about: dict[str, Any]
    beginning: Sequence[int] = ()
    family: str | None = None

    @classmethod
    def in_memory(cls, model: nn.Module, beginning: Sequence[int] = ()) -> Subject:
        """A model that is there already."""
        weight = next(model.parameters())
        precision = precision_of(weight.device.type, str(weight.dtype).removeprefix("torch."))
        about = describe(model)
        return cls("model", None, model.config, lambda: model, precision, about, beginning)


def describe(model: nn.Module) -> dict[str, Any]:
    """What a table of many models would list of this one."""
    config: Any = model.config
    names = ("position", "theta", "fraction", "window", "n_layers", "d_model", "n_heads")
    about = {name: getattr(config, name) for name in names if getattr(config, name, None)}
    about["trained_scaling"] = config.scaling.method
    return about | {"parameters": sum(parameter.numel() for parameter in model.parameters())}
