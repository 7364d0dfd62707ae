"""Whether decoding through the KV cache predicts as the full pass does, under the same method.

Every method is applied for the length of the finished text. A method whose factor follows the
length has therefore the factor of the final length from the first token on. Only so can the two
agree: rotated keys stay in the cache. A factor that grew with each token (dynamic NTK as some
libraries generate) would leave keys of older frequencies behind, which no full pass has.

Both passes are in float32, on a GPU too: rounding to bfloat16 would hide a small error.

Shapes: P passages, S context, T target tokens, N tokens of one forward, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 64  # tokens of one forward before the targets


@torch.inference_mode()
def measure_decode(
    model: nn.Module,
    passages: np.ndarray,
    *,
    target_tokens: int,
    chunk: int = CHUNK,
    on_forward: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Compare the loss of each passage's last `target_tokens` tokens, decoded and in one pass.

    The text before them goes into the cache `chunk` tokens at a time, they themselves one by one.

    Args:
        model: in eval mode, with `new_cache`.
        passages: integers (P, S + 1): S inputs and, one further on, their targets.
        on_forward: called after each forward with the number of its inputs.

    Returns:
        {"full", "decoded": nats per token, "difference": the largest of any token, "possible",
        "why": why not}; decoded and difference are None where the model cannot be decoded.
    """
    assert 1 <= target_tokens < passages.shape[1], (target_tokens, passages.shape)
    tokens = torch.from_numpy(passages).to(next(model.parameters()).device)
    read = on_forward or (lambda n: None)
    logits = model(tokens[:, :-1], logits_to_keep=target_tokens)  # (P, T, V)
    full = _nats(logits, tokens[:, -target_tokens:])
    read(tokens[:, :-1].numel())
    result = {"full": float(full.mean()), "decoded": None, "difference": None}
    try:
        logits = _decode(model, tokens[:, :-1], target_tokens, chunk, read)
    except (ValueError, NotImplementedError) as error:
        return {**result, "possible": False, "why": str(error)}
    decoded = _nats(logits, tokens[:, -target_tokens:])
    difference = float((decoded - full).abs().max())
    return {
        **result,
        "decoded": float(decoded.mean()),
        "difference": difference,
        "possible": True,
        "why": None,
    }


def _decode(
    model: nn.Module, inputs: Tensor, n_single: int, chunk: int, read: Callable[[int], None]
) -> Tensor:
    """Logits (P, T, V) after each of the last T = `n_single` of `inputs` (P, S)."""
    decoder: Any = model  # `new_cache` is not among what nn.Module has
    cache = decoder.new_cache(*inputs.shape)
    prefix, singles = inputs[:, : inputs.shape[1] - n_single], inputs[:, -n_single:]
    logits = []
    for part in (*prefix.split(chunk, dim=1), *singles.split(1, dim=1)):
        if part.shape[1] == 0:  # no prefix
            continue
        # Not by __call__, which may be compiled: the cache's length changes with each call.
        logits.append(decoder.forward(part, cache=cache, logits_to_keep=1)[:, -1])  # (P, V)
        read(part.numel())
    return torch.stack(logits[-n_single:], dim=1)


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    """float64 (P, T): -log p of `targets` (P, T) under `logits` (P, T, V)."""
    nats = F.cross_entropy(logits.double().flatten(0, 1), targets.flatten(), reduction="none")
    return nats.view_as(targets)
