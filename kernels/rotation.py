"""What both backends do first: check the arguments, and have the phases at hand."""

from __future__ import annotations

from torch import Tensor

from kernels.arguments import check_factor, check_frequencies, check_positions, check_tensors
from kernels.phases import phases_from_theta, rope_phases


def checked_phases(
    q: Tensor,
    k: Tensor,
    seq_len: int | None,
    theta: float,
    positions: Tensor | None,
    inv_freq: Tensor | None,
    phases: Tensor | None,
    attention_factor: float,
) -> Tensor:
    """Phases int64 (rotary_dim / 2,) on q's device, once all arguments are known to be good."""
    check_tensors(q, k, seq_len)
    check_positions(positions, q)
    check_frequencies(q, theta, inv_freq, phases)
    check_factor(attention_factor)
    if phases is None and inv_freq is None:
        return phases_from_theta(q.shape[3], theta, q.device)
    if phases is None:
        phases = rope_phases(inv_freq)
    return phases if phases.device == q.device else phases.to(q.device)
