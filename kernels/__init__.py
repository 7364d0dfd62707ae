"""Rotary position embedding (RoPE): one rotation, two backends, exact angles at any position.

`rope_triton` runs a Triton kernel (on a CPU through Triton's interpreter), `rope_pytorch` the
same arithmetic in plain PyTorch. Both take the same arguments; `rotate` picks one by name.
`interval_attention` is the attention that bent positions need: several rotations, one softmax.
Importing this package imports torch and nothing else: triton is touched by the first rotation.

To read: rope/ first (reference.py, the formula in PyTorch, then as its __init__.py says). Apart
stand gemm/, the projection whose matrix product rotates its own output, and attention/. All launch
their kernels through launch.py and register operators through operators.py.

pip installs this folder as the package `ropewalk`; under any other name it works as well.
"""

from .attention.intervals import can_attend_to_intervals, interval_attention
from .rope.api import BACKENDS, resolve_backend, rope_triton, rope_triton_, rotate
from .rope.phases import inverse_frequencies, rope_phases
from .rope.qkv import rope_qkv
from .rope.reference import rope_pytorch

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
