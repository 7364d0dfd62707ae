"""How the next token is drawn from logits.

The settings are those of the field, applied in the order in which transformers applies them:
repetition penalty, temperature, top-k, top-p, min-p. Everything is computed where the logits are;
the random numbers alone come from the CPU, so that a seed means the same tokens on every device, as
far as the logits agree.

Shapes: B rows, V vocab_size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FEW = 1024  # tokens that hold most nuclei; to sort a whole vocabulary takes far longer


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


class Sampler:
    """Draws the next token of every row, and remembers what each row has read."""

    def __init__(self, how: Sampling, seeds: Sequence[int | None], vocab_size: int) -> None:
        """`seeds`: of each row, whose draws no other row has a part in; None: anew each time.

        `vocab_size`: no token from it on is drawn.
        """
        self.how, self.vocab_size = how, vocab_size
        self.randoms = [_generator(seed) for seed in seeds]
        self.read: Tensor | None = None  # booleans (B, V): what counts as a repetition

    def begin(self, tokens: Tensor, mask: Tensor | None = None) -> None:
        """The rows have read these tokens (B, S), those alone where `mask` (B, S) is True."""
        if self.how.repetition_penalty == 1:
            return
        outside = tokens >= self.vocab_size
        outside = outside if mask is None else outside | ~mask
        read = torch.zeros(len(tokens), self.vocab_size + 1, dtype=torch.bool, device=tokens.device)
        read.scatter_(1, tokens.masked_fill(outside, self.vocab_size), True)
        self.read = read[:, :-1]

    def __call__(self, logits: Tensor) -> Tensor:
        """int64 (B,), on the device of the logits (B, V)."""
        device, logits = logits.device, logits[:, : self.vocab_size]
        if torch.are_deterministic_algorithms_enabled():
            logits = logits.cpu()  # a GPU's cumulative sum is not
        if self.read is not None:
            read = self.read.to(logits.device)
            logits = _penalised(logits.double(), read, self.how.repetition_penalty)
        if self.how.temperature == 0:
            chosen = logits.argmax(dim=-1)
        else:
            numbers = [torch.rand(1, generator=r, dtype=torch.float64) for r in self.randoms]
            chosen = draw(logits, torch.cat(numbers).to(logits.device), self.how)
        chosen = chosen.to(device)
        if self.read is not None:
            self.read.scatter_(1, chosen[:, None], True)
        return chosen


def _generator(seed: int | None) -> torch.Generator:
    random = torch.Generator()
    if seed is None:
        random.seed()
        return random
    return random.manual_seed(seed)


def draw(logits: Tensor, numbers: Tensor, how: Sampling) -> Tensor:
    """A token for each row of logits (B, V), int64 (B,); `numbers` (B,) float64 in [0, 1).

    The tokens share the interval from 0 to 1, in order, by their probabilities; the number says
    whose part it falls into. In float64: float32 would lose the rare ones.
    """
    logits = logits.double()
    # The largest is 0 before the division, so that no temperature, however small, overflows.
    logits = kept((logits - logits.amax(dim=-1, keepdim=True)) / how.temperature, how)
    ends = logits.softmax(dim=-1).cumsum(dim=-1)
    chosen = torch.searchsorted(ends, numbers[:, None] * ends[:, -1:], right=True)
    return chosen.squeeze(-1).clamp(max=logits.shape[-1] - 1)


def kept(logits: Tensor, how: Sampling) -> Tensor:
    """Logits (B, V) with -inf for all tokens but those that may be drawn."""
    if how.top_k is not None and how.top_k < logits.shape[-1]:
        least = logits.topk(how.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if how.top_p is not None:
        probabilities = logits.softmax(dim=-1)
        logits = logits.masked_fill(probabilities < _edge(probabilities, how.top_p), -torch.inf)
    if how.min_p is not None:
        probabilities = logits.softmax(dim=-1)
        least = how.min_p * probabilities.amax(dim=-1, keepdim=True)
        logits = logits.masked_fill(probabilities < least, -torch.inf)
    return logits


def _edge(probabilities: Tensor, top_p: float) -> Tensor:
    """The least probability in the nucleus of each row of (B, V): (B, 1); all alike are in it."""
    few = min(FEW, probabilities.shape[-1])
    likeliest = probabilities.topk(few).values
    if few < probabilities.shape[-1] and bool((likeliest.sum(dim=-1) < top_p).any()):
        likeliest = probabilities.sort(descending=True).values
    before = likeliest.cumsum(dim=-1) - likeliest  # of the tokens that are likelier still
    return likeliest.masked_fill(before >= top_p, torch.inf).amin(dim=-1, keepdim=True)


def _penalised(logits: Tensor, read: Tensor, penalty: float) -> Tensor:
    less = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(read, less, logits)
