"""Sampling text from a Transformer, token by token, with a KV cache.

Shapes: S prompt tokens, V vocab_size.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from common.rules import problems, refuse
from model.rules import GENERATION
from model.sampling import Sampling, draw
from model.transformer import Transformer


def generate(
    model: Transformer,
    prompt_tokens: Tensor,
    *,
    max_new_tokens: int,
    seed: int | None = None,
    **settings: Any,
) -> Iterator[int]:
    """Continue `prompt_tokens` (1, S) integers; yields the new token ids as they come.

    `settings`: the fields of `model.sampling.Sampling`, such as temperature and top_p. Random
    draws come from a generator of their own: the same `seed` gives the same tokens, and nothing
    else is disturbed; None draws anew each time. The model is in eval mode until the last token,
    then as it was. Raises ValueError at the call for a value out of range.
    """
    how = Sampling(**settings)
    lines = problems({"max_new_tokens": max_new_tokens, "seed": seed, **asdict(how)}, GENERATION)
    lines += _prompt_problems(model, prompt_tokens)
    refuse(lines or _length_problems(model, prompt_tokens.shape[1], max_new_tokens))
    random = torch.Generator()
    if seed is None:
        random.seed()
    else:
        random.manual_seed(seed)
    prompt_tokens = prompt_tokens.to(model.embedding.weight.device)
    return _tokens(model, prompt_tokens, max_new_tokens, how, random)


def _prompt_problems(model: Transformer, prompt_tokens: Tensor) -> list[str]:
    if prompt_tokens.ndim != 2 or prompt_tokens.shape[0] != 1 or prompt_tokens.shape[1] == 0:
        shape = tuple(prompt_tokens.shape)
        return [f"prompt_tokens: must be (1, S) with a token at least; got {shape}"]
    least, most = int(prompt_tokens.min()), int(prompt_tokens.max())
    if least < 0 or most >= model.config.vocab_size:
        return [
            f"prompt_tokens: must be from 0 to {model.config.vocab_size - 1} "
            f"(vocab_size={model.config.vocab_size}); got {least} to {most}"
        ]
    return []


def _length_problems(model: Transformer, prompt: int, new: int) -> list[str]:
    """The last token is not read: a model that reads 8 continues 1 by 8."""
    most = model.config.max_length
    if most is None or prompt + new - 1 <= most:
        return []
    if prompt > most:
        return [
            f"prompt_tokens: position={model.config.position} reads at most {most}; got {prompt}"
        ]
    return [
        f"max_new_tokens={new}: position={model.config.position} reads at most {most} tokens, of "
        f"which the prompt has {prompt}; try max_new_tokens={most - prompt + 1}"
    ]


@torch.inference_mode()  # left at every yield, so that the caller never runs in it
def _tokens(
    model: Transformer,
    tokens: Tensor,
    max_new_tokens: int,
    how: Sampling,
    random: torch.Generator,
) -> Iterator[int]:
    was_training = model.training
    model.eval()
    try:
        cache = model.new_cache(1, tokens.shape[1] + max_new_tokens)
        seen = torch.zeros(model.config.vocab_size, dtype=torch.bool)
        seen[tokens[0].cpu()] = True
        for _ in range(max_new_tokens):
            # Past a compiled __call__: the cache's length changes at every step.
            logits = model.forward(tokens, cache=cache)[0, -1]  # (V,)
            token = draw(logits, seen, how, random)
            yield token
            tokens = tokens.new_tensor([[token]])
            seen[token] = True
    finally:
        model.train(was_training)
