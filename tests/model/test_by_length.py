"""Frequencies that follow the length of the input: dynamic and longrope."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from methods.apply import applied
from methods.method import Method, parse_method
from model import ScalingConfig, Transformer
from small_models import small_model

TRAINED, WIDTH = 8, 8  # of heads
LISTS = {"short_factor": [1.0] * 4, "long_factor": [1.0, 1.5, 2.0, 4.0]}
SCALINGS = {
    "dynamic": ScalingConfig("dynamic", 2.0, TRAINED),
    "longrope": ScalingConfig("longrope", 4.0, TRAINED, LISTS),
    "longrope by length": ScalingConfig("longrope", None, TRAINED, LISTS),
}
every_scaling = pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS)


def tokens(length: int) -> Tensor:
    return torch.randint(32, (2, length), generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize(
    ("scaling", "slowest"),
    [
        (ScalingConfig("dynamic", 2.0, 8), 10000 ** (-14 / 16) / 15),  # 2.108e-5
        (
            ScalingConfig(
                "longrope", 4.0, 8, {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
            ),
            10000 ** (-14 / 16) / 4,  # 7.906e-5
        ),
    ],
)
def test_the_slowest_pair_of_64_tokens(scaling, slowest):
    attention = small_model(head_dim=16, scaling=scaling).blocks[0].attention
    for length, expected in ((8, 10000 ** (-14 / 16)), (64, slowest)):
        phases, _ = attention._frequencies(length)
        assert phases[-1].item() / 2**64 * math.tau == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["dynamic", "longrope"])
def test_frequencies_are_hugging_faces_at_every_length(name):
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    scaling = SCALINGS[name]
    parameters = {"rope_type": name, "rope_theta": 10000.0, "factor": scaling.factor}
    parameters |= {"original_max_position_embeddings": TRAINED, **scaling.options}
    config = transformers.LlamaConfig(
        hidden_size=WIDTH,
        num_attention_heads=1,
        max_position_embeddings=TRAINED,
        rope_parameters=parameters,
    )
    attention = small_model(scaling=scaling).blocks[0].attention
    for length in (5, TRAINED, TRAINED + 1, 40):
        peer = LlamaRotaryEmbedding(config)
        peer(torch.zeros(1), torch.arange(length)[None])
        phases, factor = attention._frequencies(length)
        inv_freq = [phase / 2**64 * math.tau for phase in phases.tolist()]
        assert inv_freq == pytest.approx(peer.inv_freq.tolist(), rel=2e-6)
        assert factor == pytest.approx(peer.attention_scaling, rel=1e-12)


@every_scaling
@pytest.mark.parametrize("train", [False, True])
def test_an_input_is_read_with_the_frequencies_of_its_length(scaling, train):
    model, fixed = small_model(scaling=scaling), small_model(scaling=scaling)
    model.train(train), fixed.train(train)
    for length in (3, TRAINED, TRAINED + 1, 24, 3):  # a long one leaves nothing to a short one
        fixed.set_scaling(**scaling.arguments(), seq_len=length)
        assert torch.equal(model(tokens(length)), fixed(tokens(length)))
    fixed.set_scaling("none")
    assert not torch.allclose(model(tokens(24)), fixed(tokens(24)), atol=1e-3)


@every_scaling
def test_a_cache_keeps_keys_as_they_were_rotated(scaling):
    model, x = small_model(scaling=scaling, n_layers=1), tokens(12)
    with torch.no_grad():
        cache = model.new_cache(2, 12)
        model(x[:, :TRAINED], cache=cache)
        kept = cache.layers[0].k[:, :TRAINED].clone()
        later = model(x[:, TRAINED:], cache=cache)
    assert torch.equal(cache.layers[0].k[:, :TRAINED], kept)
    whole = model.new_cache(2, 12)
    with torch.no_grad():
        model(x, cache=whole)
    new = slice(TRAINED, None)  # the new ones have the frequencies of all 12 tokens
    torch.testing.assert_close(cache.layers[0].k[:, new], whole.layers[0].k[:, new])
    assert not torch.allclose(kept, whole.layers[0].k[:, :TRAINED], atol=1e-3)
    assert later.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dynamic", "longrope"])
def test_one_graph_serves_every_length_beyond(name):
    torch._dynamo.reset()
    eager = small_model(n_layers=1, scaling=SCALINGS[name])
    compiled, counter = copy.deepcopy(eager), CompileCounterWithBackend("eager")
    compiled.compile(fullgraph=True, backend=counter)
    for length in (4, 6, 8, 9, 12, 20, 33, 40, 41, 42, 43, 44):
        torch.testing.assert_close(compiled(tokens(length)), eager(tokens(length)))
    assert counter.frame_count <= 3  # a static one, one up to train_length, one beyond
    assert torch.equal(pickle.loads(pickle.dumps(eager))(tokens(9)), eager(tokens(9)))


@every_scaling
def test_methods_set_frequencies_of_their_own(scaling):
    model = small_model(scaling=scaling)
    lengths = {"context": 32, "train_length": 16}
    with applied(parse_method("linear@4"), model, **lengths):
        assert model.blocks[0].attention.by_length is None
    with applied(parse_method("rerope@4"), model, **lengths):  # bent into the training length
        phases, factor = frequencies(model, 32)
    with applied(Method(), model, **lengths):
        assert torch.equal(phases, frequencies(model, 16)[0])
        assert factor == frequencies(model, 16)[1]
        assert model.blocks[0].attention.by_length is not None
        assert not torch.equal(phases, frequencies(model, TRAINED)[0])


def frequencies(model: Transformer, length: int) -> tuple[Tensor, float]:
    phases, factor = model.blocks[0].attention._frequencies(length)
    return phases.clone(), factor
