"""Rotary position embedding (RoPE): one rotation, two backends, exact angles at any position.

`rope_triton` runs a Triton kernel (on a CPU through Triton's interpreter), `rope_pytorch` the
same arithmetic in plain PyTorch. Both take the same arguments; `rotate` picks one by name.
`interval_attention` is the attention that bent positions need: several rotations, one softmax.
Importing this package imports torch and nothing else: triton is touched by the first rotation.
"""

from kernels.attention.intervals import can_attend_to_intervals, interval_attention
from kernels.rope.api import rope_triton, rope_triton_
from kernels.rope.backends import BACKENDS, resolve_backend, rotate
from kernels.rope.phases import inverse_frequencies, rope_phases
from kernels.rope.qkv import rope_qkv
from kernels.rope.reference import rope_pytorch

__all__ = [
    "BACKENDS",
    "can_attend_to_intervals",
    "interval_attention",
    "inverse_frequencies",
    "resolve_backend",
    "rope_phases",
    "rope_pytorch",
    "rope_qkv",
    "rope_triton",
    "rope_triton_",
    "rotate",
]
