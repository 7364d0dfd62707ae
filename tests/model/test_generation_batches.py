"""Prompts continued together: each as it is alone, and when the work ends."""

import pytest
import torch
from torch import Tensor

from commands import some
from model import ScalingConfig, Transformer, TransformerConfig, generate, generate_batch
from model.decoding import Reader, can_pad

VOCAB = 13
PROMPTS = [torch.tensor(ids) for ids in ([1, 2, 3], [4], [5, 6, 7, 8, 9, 1, 2], [1, 2, 3])]
KINDS = {
    "learned": {"position": "learned", "train_length": 32},
    "ssmax": {"ssmax": True},
    "rope": {},
    "half-split, grouped": {"interleaved": False, "n_kv_heads": 1, "qk_norm": True},
    "window": {"window": 4},
    "pattern": {"window": 3, "pattern": ["window", "full-nope"]},
    "nope": {"position": "nope"},
    "alibi": {"position": "alibi"},
    "alibi, window": {"position": "alibi", "window": 4},
    "sinusoidal": {"position": "sinusoidal"},
    "capped": {"attention_softcap": 5.0, "logit_softcap": 9.0},
    "yarn": {"scaling": ScalingConfig("yarn", 4.0, 16)},
}


def make(**options: object) -> Transformer:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "n_layers": 2, "d_model": 16, "n_heads": 2, "backend": "pytorch"}
    model = Transformer(TransformerConfig(**(sizes | options))).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


def alone(model: Transformer, prompt: Tensor, **settings: object) -> list[int]:
    return list(generate(model, prompt[None], **settings))


@pytest.mark.parametrize("kind", some(list(KINDS), default=6))
def test_each_is_continued_as_it_is_alone(kind: str, monkeypatch) -> None:
    model = make(**KINDS[kind])
    assert can_pad(model)
    monkeypatch.setattr("model.decoding.MASKED", 3)  # the prompts are read in parts
    settings = {"max_new_tokens": 9, "temperature": 0}
    rows = [list(row) for row in generate_batch(model, PROMPTS, **settings)]
    assert rows == [alone(model, prompt, **settings) for prompt in PROMPTS]
    assert len({tuple(row) for row in rows}) > 1


def test_draws_are_those_of_each_seed() -> None:
    model, seeds = make(), [3, 4, 3, 5]
    settings = {"max_new_tokens": 12, "top_p": 0.9, "repetition_penalty": 1.3}
    rows = [list(row) for row in generate_batch(model, PROMPTS, seeds=seeds, **settings)]
    pairs = zip(PROMPTS, seeds, strict=True)
    assert rows == [alone(model, prompt, seed=seed, **settings) for prompt, seed in pairs]
    assert rows[0] != rows[3]  # the same prompt, by another seed


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dynamic", "longrope"])
def test_frequencies_by_length_keep_lengths_apart(method: str) -> None:
    """A row's frequencies follow its own length, which a longer neighbour must not change."""
    options = {f"{name}_factor": [float(n)] * 4 for n, name in enumerate(("short", "long"), 1)}
    scaling = ScalingConfig(method, 4.0, 6, options if method == "longrope" else {})
    model = make(scaling=scaling)
    assert not can_pad(model)
    settings = {"max_new_tokens": 8, "temperature": 0}
    rows = [list(row) for row in generate_batch(model, PROMPTS, **settings)]
    assert rows == [alone(model, prompt, **settings) for prompt in PROMPTS]


def test_a_row_ends_with_the_token_asked_for_and_the_work_with_the_last_row(monkeypatch) -> None:
    model, steps = make(), []
    settings = {"max_new_tokens": 30, "seeds": [0, 1, 2, 3]}
    full = [list(row) for row in generate_batch(model, PROMPTS, **settings)]
    end = full[0][5]
    expected = [row[: row.index(end)] if end in row else row for row in full]
    assert any(len(row) < 30 for row in expected)
    assert [list(row) for row in generate_batch(model, PROMPTS, end=end, **settings)] == expected

    read = Reader.__call__
    monkeypatch.setattr(Reader, "__call__", lambda *a: steps.append(1) or read(*a))
    rows = generate_batch(model.train(), PROMPTS[:2], max_new_tokens=30)
    assert [next(rows[1]) for _ in range(4)] and len(steps) == 4
    rows[1].close()
    next(rows[0])
    assert not model.training and len(steps) == 4  # they were kept for this row
    rows[0].close()
    assert model.training and len(steps) == 4  # all have ended


def test_wrong_prompts_are_refused_once() -> None:
    model = make(position="learned", train_length=8)
    bad = [torch.zeros(0).long(), torch.tensor([VOCAB]), torch.tensor([1]), torch.tensor([VOCAB])]
    with pytest.raises(ValueError) as error:
        generate_batch(model, bad, max_new_tokens=9)
    first, second, third = str(error.value).splitlines()
    assert "prompts: each must be (S,)" in first and "vocab_size=13" in second
    assert "try max_new_tokens=8" in third
    assert generate_batch(model, [], max_new_tokens=1) == []
