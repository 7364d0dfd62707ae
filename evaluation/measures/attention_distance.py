"""How far back each layer looks: the distances its attention weights lie at.

Shapes: S tokens read, N queries scored, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.precision import autocast
from model import RoPEAttention

QUERIES = 64  # a passage: all of them at 32,768 tokens would be 4 GB of weights a head
FIRST_TOKENS = 4  # where attention sinks stand (StreamingLLM, arXiv:2309.17453)
FIGURES = ("mean_distance", "beyond_training", "first_tokens", "entropy")


def measure_attention(
    model: nn.Module,
    passages: np.ndarray,
    *,
    train_length: int,
    on_forward: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Each layer's attention under the method that the model is under, from real forward passes.

    Scored are 64 queries (fewer in a short text) spread over the last quarter of every passage,
    and averaged with the heads and passages.

    Args:
        model: a `model.Transformer` in eval mode.
        passages: integers (P, S + 1), of which the first S are read.
        train_length: of the model, in tokens.
        on_forward: called after each passage with the number of its tokens.

    Returns:
        {"layers": [{
            "mean_distance": tokens between a query and what it attends to,
            "beyond_training": share of the weight at distances that training never had,
            "first_tokens": share of the weight on the first 4 tokens,
            "entropy": of the weights, over ln n with n tokens so far: 1 is equal weight on all,
        }, …]}
    """
    device = next(model.parameters()).device
    context = passages.shape[1] - 1
    layers = [module for module in model.modules() if isinstance(module, RoPEAttention)]
    totals = torch.zeros(len(layers), len(FIGURES), dtype=torch.float64, device=device)
    with _observed(layers, train_length, totals):
        for passage in torch.from_numpy(passages):
            _read(model, passage[None, :-1].to(device))
            if on_forward is not None:
                on_forward(context)
    means = (totals / len(passages)).tolist()
    return {"layers": [dict(zip(FIGURES, values, strict=True)) for values in means]}


def _spread(context: int, device: torch.device) -> Tensor:
    """The queries to score, up to the last one: (N,) of the last quarter."""
    first = context - max(1, context // 4)
    count = min(QUERIES, context - first)
    return torch.from_numpy(np.linspace(first, context - 1, count).round().astype(int)).to(device)


@contextmanager
def _observed(layers: list[RoPEAttention], train_length: int, totals: Tensor) -> Iterator[None]:
    """Meanwhile every layer adds its figures to its row of `totals` before it attends."""

    def observer(row: Tensor) -> Callable[..., None]:
        def observe(layer: RoPEAttention, inputs: tuple, options: dict) -> None:
            x = inputs[0]  # (1, S, C); of a model that crops its context, fewer tokens than S
            rows = _spread(x.shape[1], x.device)
            weights = layer.weights(x, rows, options.get("positions"))
            row.add_(_figures(weights, rows, train_length))

        return observe

    hooks = [
        layer.register_forward_pre_hook(observer(row), with_kwargs=True)
        for layer, row in zip(layers, totals, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def _read(model: nn.Module, tokens: Tensor) -> None:
    with autocast(tokens.device):
        model(tokens, logits_to_keep=1)  # its layers are looked into, not what it says


def _figures(weights: Tensor, rows: Tensor, train_length: int) -> Tensor:
    """`FIGURES` of weights (1, H, N, S), averaged over heads and queries: (4,) float64."""
    distance = rows[:, None] - torch.arange(weights.shape[-1], device=rows.device)  # (N, S)
    entropy = torch.special.entr(weights).sum(-1)  # (1, H, N), in nats
    most = (rows + 1).clamp(min=2).to(weights.dtype).log()  # one token alone: 0 of whatever
    values = (
        (weights * distance).sum(-1),
        (weights * (distance >= train_length)).sum(-1),
        weights[..., :FIRST_TOKENS].sum(-1),
        entropy / most,
    )
    return torch.stack([value.mean(dtype=torch.float64) for value in values])
