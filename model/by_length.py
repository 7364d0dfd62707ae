"""Frequencies that follow the length of what is read: those of `dynamic` and `longrope`.

As in Hugging Face's `dynamic_rope_update`, but for two things. The length is the number of tokens,
whatever positions they are given, so that it is known without reading a tensor. And it alone
decides: there, a long input leaves its frequencies to the shorter ones that follow.
"""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels import rope_phases
from model.frequencies import rope_frequencies, scaling_of


@dataclass(frozen=True)
class ByLength:
    """The frequencies of a scaling for inputs longer than its `train_length`.

    Under torch.compile one graph serves all these lengths, except where `attention_factor` follows
    them too (longrope without `factor`): then every length compiles anew.
    """

    rotary_dim: int
    theta: float
    scaling: str  # the arguments of `rope_frequencies`, as JSON: operators take no dictionaries
    train_length: int
    attention_factor: float | Callable[[int], float]  # a function of the length

    @classmethod
    def of(cls, rotary_dim: int, theta: float, scaling: Mapping[str, Any]) -> "ByLength":
        """`scaling`: the arguments of `rope_frequencies` but `seq_len`; they are good ones."""
        written, train_length = json.dumps(scaling, default=float), int(scaling["train_length"])
        lengths = train_length + 1, 2 * train_length + 1
        one, other = (_at_length(n, rotary_dim, float(theta), written)[1] for n in lengths)
        factor = one if one == other else scaling_of(**scaling).temperature
        return cls(rotary_dim, float(theta), written, train_length, factor)

    def beyond(self, length: int, device: torch.device) -> tuple[Tensor, float]:
        """Phases on `device`, and the attention factor, for an input of `length` tokens."""
        phases = _phases_at(length, self.rotary_dim, self.theta, self.scaling, device)
        if callable(self.attention_factor):  # a graph's constant, so the length must be one, too
            return phases, self.attention_factor(len(range(length)))
        return phases, self.attention_factor


@functools.lru_cache(maxsize=64)
def _at_length(length: int, rotary_dim: int, theta: float, scaling: str) -> tuple[Tensor, float]:
    arguments = json.loads(scaling)
    inv_freq, factor = rope_frequencies(rotary_dim, theta, seq_len=length, **arguments)
    return rope_phases(inv_freq), factor


@torch.library.custom_op("ropewalk_model::phases_at", mutates_args=())
def _phases_at(
    length: int, rotary_dim: int, theta: float, scaling: str, device: torch.device
) -> Tensor:
    """An opaque operator, so that one compiled graph serves every length beyond training."""
    return _at_length(length, rotary_dim, theta, scaling)[0].to(device, copy=True)


@_phases_at.register_fake
def _(length: int, rotary_dim: int, theta: float, scaling: str, device: torch.device) -> Tensor:
    return torch.empty(rotary_dim // 2, dtype=torch.int64, device=device)
