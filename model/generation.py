"""Sampling text from a Transformer, token by token: one prompt, or several together.

Shapes: B rows, S tokens of the longest prompt, V vocab_size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from common.rules import problems, refuse
from model.decoding import Reader, can_pad, longest
from model.decoding_graph import GraphReader, graph_refusal
from model.rules import GENERATION
from model.sampling import Sampler, Sampling
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

    `settings`: as `generate_batch` takes them. Random draws come from a generator of their own: the
    same `seed` gives the same tokens, and nothing else is disturbed; None draws anew each time. The
    model is in eval mode until the last token, then as it was. Raises ValueError at the call for a
    value out of range.
    """
    if prompt_tokens.ndim != 2 or prompt_tokens.shape[0] != 1 or prompt_tokens.shape[1] == 0:
        shape = tuple(prompt_tokens.shape)
        raise ValueError(f"prompt_tokens: must be (1, S) with a token at least; got {shape}")
    settings = {"max_new_tokens": max_new_tokens, "seeds": [seed], **settings}
    return generate_batch(model, [prompt_tokens[0]], **settings)[0]


def generate_batch(
    model: Transformer,
    prompts: Sequence[Tensor],
    *,
    max_new_tokens: int,
    seeds: Sequence[int | None] | None = None,
    end: int | None = None,
    vocab_size: int | None = None,
    graph: bool = False,
    **settings: Any,
) -> list[Iterator[int]]:
    """Continue several prompts (S,) of integers together; the new token ids of each, in order.

    `model` may be what `methods.apply.applied` gives in its place. Each iterator is what `generate`
    would give for its prompt alone, up to the rounding of a batch's matrix products. They may be
    read in any order: what one of them needs is computed for all and kept. To close one early says
    that its row is not needed any more; the work ends when all have ended.

    Args:
        seeds: of the draws, one for each prompt; None: draws anew each time.
        end: the id with which a row ends; it is not given out.
        vocab_size: no id from it on is drawn (None: all of the model's may be), for a tokenizer
            that knows fewer than the model.
        graph: decode by CUDA graphs (`model/decoding_graph.py`), where the model and the device
            allow it: `graph_refusal` says why not.
        settings: the fields of `model.sampling.Sampling`, such as temperature and top_p.

    Prompts of different lengths are filled up on the left, where the model can leave that out of
    account; where not, those of one length go together. Raises ValueError at the call for a value
    out of range.
    """
    how = Sampling(**settings)
    seeds = [None] * len(prompts) if seeds is None else list(seeds)
    assert len(seeds) == len(prompts), (len(seeds), len(prompts))
    lines = problems(asdict(how), GENERATION)
    for seed in seeds:
        lines += problems({"seed": seed}, GENERATION)
    refuse(list(dict.fromkeys(lines + prompt_problems(model, prompts, max_new_tokens))))

    known = min(vocab_size or model.config.vocab_size, model.config.vocab_size)
    rows: list[Iterator[int]] = [iter(())] * len(prompts)
    for members in _together(model, prompts):
        sampler = Sampler(how, [seeds[i] for i in members], known)
        steps = _steps(model, [prompts[i] for i in members], max_new_tokens, sampler, graph)
        batch = _Batch(steps, len(members), end)
        for row, i in enumerate(members):
            rows[i] = batch.row(row)
    return rows


def prompt_problems(
    model: Transformer, prompts: Sequence[Tensor], max_new_tokens: int
) -> list[str]:
    """A line for each reason why prompts (S,) cannot be continued by so many tokens."""
    lines = problems({"max_new_tokens": max_new_tokens}, GENERATION)
    for prompt in prompts:
        wrong = _prompt_problems(model, prompt)
        lines += wrong or _length_problems(model, len(prompt), max_new_tokens)
    return list(dict.fromkeys(lines))


def _prompt_problems(model: Transformer, prompt: Tensor) -> list[str]:
    if prompt.ndim != 1 or len(prompt) == 0:
        return [f"prompts: each must be (S,) with a token at least; got {tuple(prompt.shape)}"]
    least, most = int(prompt.min()), int(prompt.max())
    if least < 0 or most >= model.config.vocab_size:
        return [
            f"prompt_tokens: must be from 0 to {model.config.vocab_size - 1} "
            f"(vocab_size={model.config.vocab_size}); got {least} to {most}"
        ]
    return []


def _length_problems(model: Transformer, prompt: int, new: int) -> list[str]:
    """The last token is not read: a model that reads 8 continues 1 by 8."""
    most = longest(model)
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


def _together(model: Transformer, prompts: Sequence[Tensor]) -> list[list[int]]:
    """Which prompts are continued in one batch: their numbers."""
    if can_pad(model):
        return [list(range(len(prompts)))] if prompts else []
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(i)
    return list(by_length.values())


def _filled_up(prompts: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Tokens (B, S), zeros on the left of the shorter prompts, and booleans (B, S), False there.

    No mask where all are of one length.
    """
    longest = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = True
    return tokens.to(device), None if bool(mask.all()) else mask.to(device)


class _Batch:
    """Rows that are decoded together, each read by an iterator of its own."""

    def __init__(self, steps: Iterator[list[int]], n_rows: int, end: int | None) -> None:
        self.steps, self.end = steps, end
        self.new: list[list[int]] = [[] for _ in range(n_rows)]
        self.open = set(range(n_rows))

    def row(self, number: int) -> Iterator[int]:
        """The new tokens of a row. What the other rows get meanwhile is kept for them."""
        given, new = 0, self.new[number]
        try:
            while given < len(new) or self._advance():
                if new[given] == self.end:
                    return
                yield new[given]
                given += 1
        finally:
            self.open.discard(number)
            if not self.open:
                self.steps.close()  # type: ignore[attr-defined]

    def _advance(self) -> bool:
        """Decode a token more of every row; False when there are no more."""
        step = next(self.steps, None)
        for new, token in zip(self.new, step or (), strict=False):
            new.append(token)
        return step is not None


@torch.inference_mode()  # left at every yield, so that the caller never runs in it
def _steps(
    model: Transformer,
    prompts: list[Tensor],
    max_new_tokens: int,
    sampler: Sampler,
    graph: bool,
) -> Iterator[list[int]]:
    was_training = model.training
    model.eval()
    try:
        tokens, mask = _filled_up(prompts, next(model.parameters()).device)
        sampler.begin(tokens, mask)
        reader = GraphReader if graph and graph_refusal(model) is None else Reader
        read = reader(model, mask, len(tokens), tokens.shape[1] + max_new_tokens)
        for _ in range(max_new_tokens):
            chosen = sampler(read(tokens))  # (B,)
            yield chosen.tolist()
            tokens = chosen[:, None]
    finally:
        model.train(was_training)
