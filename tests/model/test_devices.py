"""Devices that are neither a CPU nor CUDA: the meta device stands in for Apple's and Intel's.

Tensors there have no values, so that it also holds that no value is read on the way.
"""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels import resolve_backend, rope_pytorch, rope_triton, rope_triton_
from model import Transformer, TransformerConfig
from training.device import pick_device

LACKING = (torch.float64, torch.complex64, torch.complex128)  # Apple's GPUs: now, or once
VARIANTS = [
    {},
    {"interleaved": False, "fraction": 0.5, "n_kv_heads": 2, "qk_norm": True},
    {"position": "alibi"},
    {"position": "sinusoidal"},
    {"position": "learned", "train_length": 16},
    {"window": 4},
    {"ssmax": True},
]


class Lacks(TorchDispatchMode):
    """Fails where a tensor is made that an Apple GPU could not hold."""

    made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.device.type == "meta":
                self.made += 1
                assert x.dtype not in LACKING, func
        return out


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pytorch_backend_trains_and_decodes_without_float64(variant):
    model = Transformer(TransformerConfig(d_model=32, n_layers=2, **variant)).to("meta")
    tokens = torch.zeros(2, 12, dtype=torch.int64, device="meta")
    with Lacks() as lacks:
        logits = model(tokens)
        logits.mean().backward()
        with torch.no_grad():
            cache = model.new_cache(2, 12)
            cached = [model(piece, cache=cache) for piece in tokens.split([5, 7], dim=1)]
        with pytest.raises(AssertionError):  # it would notice
            logits.double()
    assert torch.cat(cached, 1).device == logits.device == model.embedding.weight.grad.device
    assert lacks.made > 100


def test_the_kernels_are_refused_there_and_pytorch_named():
    for device in ("mps", "xpu"):
        assert resolve_backend("auto", device) == resolve_backend("pytorch", device) == "pytorch"
        with pytest.raises(ValueError, match=f"backend=triton: .* for {device}; pytorch works"):
            resolve_backend("triton", device)
    q = torch.empty(2, 3, 4, 8, device="meta")
    assert rope_pytorch(q, q)[0].shape == q.shape
    for rope in (rope_triton, rope_triton_):
        with pytest.raises(ValueError, match=r"q is on meta: .*elsewhere rope_pytorch works"):
            rope(q, q + 1)


def test_an_apple_gpu_is_picked_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert {pick_device(name).type for name in ("auto", "gpu", "mps")} == {"mps"}
    with pytest.raises(ValueError, match=r"accelerator=cuda: no CUDA GPU .*=auto"):
        pick_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"accelerator=mps: no Apple GPU"):
        pick_device("mps")
