"""Causal attention under a position map (`methods/maps.py`): a rotation for each of its passes.

`bend` puts a core of this kind into the attention layers of a model, or takes it out again.

Shapes: B batch, S queries, T keys, H heads of queries, Hk heads of keys and values, D head_dim,
N chosen queries, P pairs that are rotated.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from kernels import rotate
from methods.bent_attention import bent_attention
from methods.maps import PositionMap
from model import RoPEAttention
from model.cores import Call, Core, dots
from model.fused_attention import fuses
from model.layers import Layer
from model.norms import capped


def bend(model: nn.Module, position_map: PositionMap | None) -> None:
    """Bend the relative positions of attention layers from now on; None: as trained.

    A layer with a window never meets the distances that are bent, one without positions has none:
    they stay as they are. For evaluation: attention weights are not dropped. The layers then take
    no `positions` and no mask, and attend causally to tokens counted from 0. A cache made before is
    of no use: it then holds keys that are not rotated.
    Raises ValueError, and changes nothing, where no layer can be bent, or one is not causal.
    """
    modules = [module for module in model.modules() if isinstance(module, RoPEAttention)]
    layers = [layer for layer in modules if Layer(layer.window, layer.position).bends]
    if position_map is not None:
        _check(layers or modules, position_map)
    for layer in layers:
        core = layer.core.ordinary if isinstance(layer.core, BentCore) else layer.core
        layer.core = core if position_map is None else BentCore(position_map, layer, core)


def _check(layers: list[RoPEAttention], position_map: PositionMap) -> None:
    said = f"position_map={position_map}"
    for layer in layers:
        if not layer.causal:
            raise ValueError(f"{said}: is for causal attention alone; make it causal=True")
        if layer.position != "rope":
            raise ValueError(
                f"{said}: a model with position={layer.position} has no relative positions to "
                "bend; use None"
            )
        if layer.window is not None:
            raise ValueError(
                f"{said}: a layer with window={layer.window} sees none of the distances that are "
                "bent; use None"
            )


class BentCore(Core):
    """The core of `layer` under a map; `ordinary` is the one that it has taken the place of."""

    rotates, counts = True, True

    def __init__(self, position_map: PositionMap, layer: RoPEAttention, ordinary: Core) -> None:
        self.position_map, self.layer, self.ordinary = position_map, layer, ordinary

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        """See `Core`; q and k are not rotated. Raises ValueError for a mask and for positions."""
        if call.positions is not None or call.mask is not None:
            raise ValueError("positions, mask: a position map counts tokens itself; leave them out")
        cap = self.layer.softcap
        fused = cap is None and fuses(self.layer.backend, q, k, v)
        rotation = partial(rotated, self.layer)
        return bent_attention(q, k, v, self.position_map, rotation, fused=fused, cap=cap)

    def scores(self, q: Tensor, k: Tensor, rows: Tensor, positions: Tensor | None) -> Tensor:
        """See `Core`: each pass scores the keys that it covers."""
        keys = torch.arange(k.shape[1], device=k.device)
        shape = (q.shape[0], q.shape[2], len(rows), len(keys))  # (B, H, N, T)
        precision = torch.promote_types(q.dtype, torch.float32)
        scores = torch.full(shape, -torch.inf, dtype=precision, device=q.device)
        for one in self.position_map.passes():
            there = dots(
                rotated(self.layer, q, one.query(rows), one.leak, one.spread),
                rotated(self.layer, k, one.key(keys), one.leak),
            )
            there = capped(there, self.layer.softcap)
            low, high = one.keys(rows[:, None])
            scores = torch.where((low <= keys) & (keys < high), there, scores)
        return scores


def rotated(
    layer: RoPEAttention, x: Tensor, positions: Tensor, leak: int = 1, spread: int = 1
) -> Tensor:
    """x (B, S, H, D) rotated to `positions` (S,) as the layer does, frequencies divided by `leak`.

    With `spread`, the mean of so many rotations around these, a token apart whatever the leak.
    """
    # Fixed point: exact to its last bit.
    phases = layer.phases if leak == 1 else (layer.phases + leak // 2) // leak
    turned, _ = rotate(
        x,
        x[:, :, :1],  # the rotation takes queries and keys; here there is one of them
        positions=positions,
        phases=phases,
        interleaved=layer.interleaved,
        attention_factor=layer.attention_factor,
        backend=layer.backend,
    )
    if spread == 1:
        return turned
    faded = mean_of_turns(layer.phases, spread, torch.promote_types(x.dtype, torch.float32))
    faded = faded.repeat_interleave(2) if layer.interleaved else faded.repeat(2)
    tail = faded.new_ones(x.shape[-1] - len(faded))  # what is not rotated
    return (turned * torch.cat((faded, tail))).to(x.dtype)


def mean_of_turns(phases: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """The mean of e^(i m θ) over `count` numbers m, one apart and with 0 in their middle: (P,).

    It is real: the Dirichlet kernel sin(count θ/2) / (count sin(θ/2)), 1 where θ is 0.
    `phases`: θ in 64-bit fractions of a turn, int64 (P,), as `kernels.rope_phases` gives them.
    """
    half = phases.to(dtype) * (math.pi / 2**64)
    return torch.where(phases == 0, 1.0, (count * half).sin() / (count * half.sin()))
