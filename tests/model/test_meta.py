"""Models that are built on the meta device, moved and loaded: nothing that is derived gets lost."""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor

from model import RoPEAttention, ScalingConfig, Transformer, TransformerConfig
from small_models import small_model

X = torch.arange(24).reshape(2, 12) % 32
LISTS = {"short_factor": [1.5] * 4, "long_factor": [3.0] * 4}
KINDS = {
    "rope": {},
    "half-split, half rotated": {"interleaved": False, "fraction": 0.5},
    "alibi": {"position": "alibi"},
    "nope": {"position": "nope"},
    "sinusoidal": {"position": "sinusoidal"},
    "learned": {"position": "learned", "train_length": 16},
    "ssmax": {"ssmax": True},
    "windows": {"window": 4, "pattern": ["window", "full-nope"]},
    "untied": {"tied_head": False},
    "linear": {"scaling": ScalingConfig("linear", 4.0)},
    "yarn": {"scaling": ScalingConfig("yarn", 4.0, 8)},
    "dynamic": {"scaling": ScalingConfig("dynamic", 2.0, 8)},
    "longrope": {"scaling": ScalingConfig("longrope", 4.0, 8, LISTS)},
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def on_meta(source: Transformer) -> Transformer:
    with torch.device("meta"):
        return Transformer(source.config).double().eval()


@every_kind
@pytest.mark.parametrize(("emptied", "assign"), [(True, False), (True, True), (False, True)])
def test_a_model_from_the_meta_device_computes_the_same(kind, assign, emptied, monkeypatch):
    source = small_model(**kind)
    model = on_meta(source)
    real = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: real(*a, **k).fill_(77))
    if emptied:
        model.to_empty(device="cpu")
    model.load_state_dict(copy.deepcopy(source.state_dict()), assign=assign)
    assert torch.equal(model(X), source(X))
    assert (model.head.weight is model.embedding.weight) == source.config.tied_head
    assert not any(x.is_meta for x in (*model.parameters(), *model.buffers()))


def test_the_phases_follow_what_was_set_last():
    source = small_model()
    source.set_scaling("linear", factor=4.0)
    model = on_meta(small_model())
    model.set_scaling("linear", factor=4.0)
    model.to_empty(device="cpu").load_state_dict(source.state_dict())
    assert torch.equal(model(X), source(X))


def test_an_attention_alone_computes_the_same():
    torch.manual_seed(0)
    x, source = torch.randn(2, 5, 32), RoPEAttention(32, 4).eval()
    with torch.device("meta"):
        built = [RoPEAttention(32, 4).eval() for _ in range(2)]
    built[0].to_empty(device="cpu").load_state_dict(source.state_dict())
    built[1].load_state_dict(source.state_dict(), assign=True)
    for attention in built:
        assert torch.equal(attention(x), source(x))


@every_kind
def test_copies_and_casts_keep_the_phases(kind):
    source = small_model(**kind)
    saved = io.BytesIO()
    torch.save(source, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=False)
    for model in (copy.deepcopy(source), pickle.loads(pickle.dumps(source)), loaded):
        assert torch.equal(model(X), source(X))
    cast = copy.deepcopy(source).to(torch.bfloat16).to(torch.float64)
    before: dict[str, Tensor] = dict(source.named_buffers())
    assert all(torch.equal(x, before[name]) for name, x in cast.named_buffers())


def test_loading_with_assign_keeps_the_head_tied():
    source, model = small_model(), small_model()
    model.load_state_dict(copy.deepcopy(source.state_dict()), assign=True)
    assert model.head.weight is model.embedding.weight
    assert model.num_parameters() == source.num_parameters()
    parent = torch.nn.ModuleDict({"net": Transformer(TransformerConfig(d_model=32))})
    parent.load_state_dict(copy.deepcopy(parent.state_dict()), assign=True)
    assert parent["net"].head.weight is parent["net"].embedding.weight
