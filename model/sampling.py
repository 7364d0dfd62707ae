"""How the next token is drawn from logits.

The settings are those of the field, applied in the order in which transformers applies them:
repetition penalty, temperature, top-k, top-p, min-p. V vocab_size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """What `generate` draws by; the values follow the rules `model.rules.GENERATION`.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: keeps that many of the likeliest tokens.
        top_p: keeps the likeliest tokens that together reach this probability (nucleus sampling,
            arXiv:1904.09751).
        min_p: keeps tokens of at least this share of the likeliest one's probability
            (arXiv:2407.01082).
        repetition_penalty: divides the positive logits of tokens that have been read already, and
            multiplies the negative ones (CTRL, arXiv:1909.05858).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0


def draw(logits: Tensor, seen: Tensor, how: Sampling, random: torch.Generator) -> int:
    """One token id from logits (V,); `seen` (V,) bool, on the CPU: tokens that have been read.

    It is drawn on the CPU: a seed means the same everywhere, and there is float64.
    """
    logits = logits.cpu().double()
    if how.repetition_penalty != 1:
        logits = _penalised(logits, seen, how.repetition_penalty)
    if how.temperature == 0:
        return int(logits.argmax())
    # The largest is 0 before the division, so that no temperature, however small, overflows.
    logits = kept((logits - logits.max()) / how.temperature, how)
    return int(torch.multinomial(logits.softmax(dim=-1), 1, generator=random))


def kept(logits: Tensor, how: Sampling) -> Tensor:
    """Logits (V,) with -inf for all tokens but those that may be drawn."""
    if how.top_k is not None and how.top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(how.top_k).values[-1], -torch.inf)
    if how.top_p is not None:
        likeliest, order = logits.softmax(dim=-1).sort(descending=True, stable=True)
        before = likeliest.cumsum(dim=-1) - likeliest  # of the tokens that are likelier still
        logits = logits.index_fill(0, order[before >= how.top_p], -torch.inf)
    if how.min_p is not None:
        probabilities = logits.softmax(dim=-1)
        least = how.min_p * probabilities.max()
        logits = logits.masked_fill(probabilities < least, -torch.inf)
    return logits


def _penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    less = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, less, logits)
