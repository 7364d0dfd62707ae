"""The registry of backends: the same rotation by other means, picked by name."""

from __future__ import annotations

import difflib
import importlib.util

import torch
from torch import Tensor

from kernels.rope.api import rope_triton
from kernels.rope.reference import rope_pytorch

_ROTATIONS = {"triton": rope_triton, "pytorch": rope_pytorch}
BACKENDS: tuple[str, ...] = tuple(_ROTATIONS)

# Looked up once and without importing it: a look-up on the call path would break fullgraph.
_HAS_TRITON = importlib.util.find_spec("triton") is not None


def resolve_backend(name: str, device: torch.device | str) -> str:
    """The name of the backend that will run on `device`.

    Args:
        name: one of BACKENDS, or "auto": Triton on a CUDA device where triton is installed,
            PyTorch elsewhere.
        device: where q and k will be.

    Raises:
        ValueError: there is no such backend, or it needs triton and triton is not installed.
    """
    if name == "auto":
        on_cuda = torch.device(device).type == "cuda"
        return "triton" if on_cuda and _HAS_TRITON else "pytorch"
    if name not in BACKENDS:
        close = difflib.get_close_matches(str(name), (*BACKENDS, "auto"), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"backend={name}: must be one of auto, {', '.join(BACKENDS)}{hint}")
    if name == "triton" and not _HAS_TRITON:
        raise ValueError("backend=triton: triton is not installed here; pytorch works")
    return name


def rotate(q: Tensor, k: Tensor, *args, backend: str, **kwargs) -> tuple[Tensor, Tensor]:
    """Rotate q and k by the backend of that name; all other arguments as `rope_triton`'s."""
    rotation = _ROTATIONS.get(backend)
    if rotation is None:
        rotation = _ROTATIONS[resolve_backend(backend, q.device)]
    return rotation(q, k, *args, **kwargs)
