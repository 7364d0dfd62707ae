"""How a model knows where its tokens stand, apart from the rotation: ALiBi's bias on the scores,
and the two embeddings of a position that are added to the token's.

Shapes: B batch, S queries, T keys, H heads, C d_model.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import rope_phases
from model.phases import WithPhases

SINUSOIDAL_THETA = 10000.0


def alibi_slopes(n_heads: int, device: torch.device | str | None = None) -> Tensor:
    """The slope of every head (ALiBi, arXiv:2108.12409): (H,) float32.

    For a power of two they are 2^(-8h/H), h = 1 ... H. Else, by the authors' rule, those of the
    power of two below, then every second one of the power of two above, from its first on.
    """
    power = 2 ** (n_heads.bit_length() - 1)
    head = torch.arange(1, n_heads + 1, dtype=torch.float32, device=device)
    # The twice as many slopes 2^(-8h/2P) at h = 1, 3, 5, ... are 2^(-8(h' - 1/2)/P), h' = 1, 2, ...
    step = torch.where(head <= power, head, head - power - 0.5)
    return torch.exp2(step * (-8.0 / power))


def alibi_bias(slopes: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """-slope · distance: (1, H, S, T), or (B, H, S, T) where sequences have their own positions.

    `queries` (S,) or (B, S) and `keys` (T,) or (B, T) are integer positions, `slopes` (H,).
    """
    distance = (queries.unsqueeze(-1) - keys.unsqueeze(-2)).abs()  # exact: integers
    distance = distance.reshape(-1, 1, *distance.shape[-2:]).float()
    return distance * -slopes[:, None, None]


class SinusoidalPositions(WithPhases):
    """The original transformer's (arXiv:1706.03762, sections 3.4 and 3.5), at any position:

        sqrt(C) · embedding + PE,  PE[2i] = sin(position · w_i),  PE[2i + 1] = cos(position · w_i),
        w_i = 10000^(-2i/C)

    The angles are fixed-point turns, as the rotation's are: exact at any position.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        exponents = torch.arange(0, d_model, 2, dtype=torch.float64, device="cpu") / d_model
        self.keep_phases(rope_phases(SINUSOIDAL_THETA**-exponents))  # (C/2,)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, S, C) and integers (S,) or (B, S) -> (B, S, C)."""
        turns = positions.to(torch.int64)[..., None] * self.phases  # wraps as the angle does
        angle = (turns >> 32).to(torch.float32) * (2 * math.pi / 2**32)
        waves = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)
        return x * math.sqrt(x.shape[-1]) + waves.to(x.dtype)


class LearnedPositions(nn.Module):
    """A vector for each of `max_length` positions, trained (GPT-2); there are none beyond."""

    def __init__(self, max_length: int, d_model: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.weight = nn.Parameter(torch.empty(max_length, d_model).normal_(std=0.02))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, S, C) and integers (S,) or (B, S) in [0, max_length) -> (B, S, C)."""
        return x + F.embedding(positions, self.weight)

    def check(self, positions: Tensor) -> None:
        """Raise a ValueError where a position has no vector (on a GPU, a synchronisation).

        Not while a CUDA graph is captured, which allows none.
        """
        if positions.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        low, high = int(positions.min()), int(positions.max())
        if low < 0 or high >= self.max_length:
            raise ValueError(_beyond(self.max_length, f"position {low if low < 0 else high}"))

    def check_length(self, length: int) -> None:
        """Raise a ValueError where a sequence of `length` tokens has too few vectors."""
        if length > self.max_length:
            raise ValueError(_beyond(self.max_length, f"{length} tokens"))


def position_embedding(position: str, d_model: int, max_length: int | None) -> nn.Module | None:
    """The module that adds positions to the embedding; None where the layers know of them."""
    if position == "sinusoidal":
        return SinusoidalPositions(d_model)
    if position == "learned":
        assert max_length is not None  # TransformerConfig has asked for it
        return LearnedPositions(max_length, d_model)
    return None


def _beyond(max_length: int, what: str) -> str:
    return (
        f"position=learned: {what}, but only 0 to {max_length - 1} have been learned, and these "
        f"do not extrapolate; read at most {max_length} tokens, or train with position=rope"
    )
