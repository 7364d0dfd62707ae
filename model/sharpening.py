"""SSMax: scores that sharpen with the number of keys, by a factor that every head learns.

Shapes: B batch, S sequence, H heads, D head_dim.
"""

import math

import torch
from torch import Tensor, nn

TYPICAL_LENGTH = 1024  # where the training length is not known


class ScalableSoftmax(nn.Module):
    """softmax(s · ln(n) · q·k / sqrt(D)) with n the keys that a query sees (arXiv:2501.19399).

    Over n keys, softmax cannot keep a share of its weight on one of them unless the scores grow
    with ln(n). `scale` is s, one for each head.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_heads,), ssmax_start(TYPICAL_LENGTH)))

    def forward(self, q: Tensor, past: int, n_keys: int, causal: bool) -> Tensor:
        """q (B, S, H, D) times s · ln(n): query i sees past + i + 1 keys, or, not causal, all."""
        seen = torch.arange(past + 1, past + 1 + q.shape[1], device=q.device)
        seen = seen if causal else torch.full_like(seen, n_keys)
        dtype = torch.promote_types(self.scale.dtype, torch.float32)  # bfloat16 counts to 256
        factor = seen.to(dtype).log()[:, None] * self.scale.to(dtype)  # (S, H)
        return q * factor[..., None].to(q.dtype)


def ssmax_start(train_length: int) -> float:
    """The s with which s · ln(n) is 1 on average over n = 1 ... train_length: plain softmax."""
    length = max(train_length, 2)
    return length / math.lgamma(length + 1)  # the sum of ln(n) is ln(length!)
