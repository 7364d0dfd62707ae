"""Sampling: greedy against the full forward, determinism, top-k, and what it leaves behind."""

import math

import pytest
import torch
from torch import Tensor

from model import Transformer, TransformerConfig, generate

VOCAB = 13


def make() -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=VOCAB, n_layers=2, d_model=16, n_heads=2, dropout=0.3, backend="pytorch"
    )
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


PROMPT = torch.tensor([[1, 2, 3]])


def full_forward(model: Transformer, tokens: Tensor) -> Tensor:
    model.eval()
    with torch.no_grad():
        return model(tokens)[0, -1]


def test_greedy_equals_full_forwards():
    model, tokens = make(), PROMPT
    generated = list(generate(model, PROMPT, max_new_tokens=20, temperature=0))
    for token in generated:
        assert token == int(full_forward(model, tokens).argmax())
        tokens = torch.cat((tokens, torch.tensor([[token]])), dim=1)
    assert len(generated) == 20 and len(set(generated)) > 1


def test_a_seed_gives_the_same_tokens_and_disturbs_nothing():
    model = make()
    state = torch.get_rng_state()
    first = list(generate(model, PROMPT, max_new_tokens=30, seed=7))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert list(generate(model, PROMPT, max_new_tokens=30, seed=7)) == first
    assert list(generate(model, PROMPT, max_new_tokens=30, seed=8)) != first
    unseeded = [tuple(generate(model, PROMPT, max_new_tokens=30)) for _ in range(3)]
    assert len(set(unseeded)) > 1


@pytest.mark.parametrize(
    ("temperature", "top_k"),
    [
        (1.0, None),
        pytest.param(2.0, None, marks=pytest.mark.slow),
        pytest.param(1.0, 3, marks=pytest.mark.slow),
        (0.5, 4),
    ],
)
def test_frequencies_follow_the_softmax(temperature, top_k):
    model, draws = make(), 400
    logits = full_forward(model, PROMPT) / temperature
    if top_k:
        logits[logits.argsort()[:-top_k]] = -math.inf
    expected = logits.softmax(0)
    counts = torch.zeros(VOCAB)
    for seed in range(draws):
        settings = {"temperature": temperature, "top_k": top_k, "seed": seed}
        counts[next(generate(model, PROMPT, max_new_tokens=1, **settings))] += 1
    assert (counts[expected == 0] == 0).all()
    error = (counts / draws - expected).abs()
    assert (error <= 5 * (expected * (1 - expected) / draws).sqrt() + 1e-9).all()


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"temperature": 1e-300}])
def test_one_choice_left_is_greedy(settings):
    model = make()
    greedy = list(generate(model, PROMPT, max_new_tokens=10, temperature=0))
    assert list(generate(model, PROMPT, max_new_tokens=10, seed=3, **settings)) == greedy


def test_top_k_past_the_vocabulary_keeps_everything():
    model = make()
    free = list(generate(model, PROMPT, max_new_tokens=10, seed=3))
    assert list(generate(model, PROMPT, max_new_tokens=10, seed=3, top_k=1000)) == free


def test_modes_are_restored_and_the_caller_stays_outside():
    model = make().train()
    stream = generate(model, PROMPT, max_new_tokens=5)
    assert model.training  # nothing happens before the first token is asked for
    next(stream)
    assert not model.training
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    stream.close()
    assert model.training
    assert len(list(generate(model.eval(), PROMPT, max_new_tokens=2))) == 2
    assert not model.training


def test_training_goes_on_after_sampling():
    model = make()
    list(generate(model, PROMPT, max_new_tokens=3))
    model(PROMPT).sum().backward()
    assert model.embedding.weight.grad is not None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": -1}, "top_k=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
    ],
)
def test_wrong_settings_are_refused_at_the_call(settings, named):
    with pytest.raises(ValueError, match=named):
        generate(make(), PROMPT, **{"max_new_tokens": 5, **settings})


@pytest.mark.parametrize(
    "prompt", [torch.tensor([1, 2]), torch.tensor([[1], [2]]), torch.zeros(1, 0).long()]
)
def test_wrong_prompts_are_refused(prompt):
    with pytest.raises(ValueError, match="prompt_tokens: must be"):
        generate(make(), prompt, max_new_tokens=5)


def test_a_prompt_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocab_size=13"):
        generate(make(), torch.tensor([[VOCAB]]), max_new_tokens=5)
