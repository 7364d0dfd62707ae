"""Positions drawn at random in training (`model.random_positions`)."""

import pytest
import torch
from torch import Tensor

from extras.random_positions import random_positions
from model import Transformer, TransformerConfig

VOCAB, S, H, C = 17, 12, 4, 32
SMALL = {"vocab_size": VOCAB, "n_layers": 2, "d_model": C, "n_heads": H, "backend": "pytorch"}


def make(**kwargs: object) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**SMALL, **kwargs})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model


def tokens(batch_size: int = 2, seq_len: int = S) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCAB, (batch_size, seq_len), generator=generator)


def test_they_are_different_sorted_and_reach_the_whole_range():
    torch.manual_seed(0)
    draws = torch.stack([random_positions(8, 40, torch.device("cpu")) for _ in range(500)])
    assert draws.dtype == torch.int64 and (draws.diff(dim=1) > 0).all()
    assert draws.min() == 0 and draws.max() == 39
    # Every position is as likely as any other: 500 draws of 8 in 40 are 100 of each.
    counts = draws.flatten().bincount(minlength=40).double()
    assert ((counts - 100).abs() < 5 * 9).all()
    assert torch.equal(random_positions(8, 8, torch.device("cpu")), torch.arange(8))


@pytest.mark.parametrize("position", ["rope", "alibi", "sinusoidal", "learned"])
def test_they_are_drawn_in_training_alone(position):
    model, x = make(position=position, random_positions=64, train_length=S), tokens()
    plain = make(position=position, random_positions=None, train_length=64)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(x), plain(x)) and torch.equal(model(x), model(x))
    model.train()
    torch.manual_seed(5)
    drawn = random_positions(S, 64, torch.device("cpu"))
    torch.manual_seed(5)
    logits = model(x)
    assert torch.equal(logits, plain(x, drawn))
    assert not torch.equal(model(x), logits)
    assert torch.equal(model(x, torch.arange(S)), plain(x))  # given ones are taken


def test_learned_positions_reach_as_far_as_the_random_ones():
    model = make(position="learned", random_positions=64, train_length=S)
    assert model.config.max_length == 64
    assert model(tokens(1, 64)).isfinite().all()
    with pytest.raises(ValueError, match="do not extrapolate"):
        model(tokens(1, 65))


@pytest.mark.slow
def test_they_compile_in_one_graph():
    torch._dynamo.reset()
    model = make(random_positions=64).float().train()
    model.compile(fullgraph=True, backend="aot_eager")
    assert not torch.equal(model(tokens()), model(tokens()))
    model(tokens()).sum().backward()


@pytest.mark.parametrize(
    ("kwargs", "start"),
    [
        ({"random_positions": 1}, "model.random_positions=1: must be null or an integer from 2"),
        ({"random_positions": 64, "position": "nope"}, "model.random_positions=64: has no effect"),
        (
            {"random_positions": 64, "train_length": 65},
            "model.random_positions=64: must be at least data.seq_len=65; try",
        ),
    ],
)
def test_one_wrong_value(kwargs, start):
    with pytest.raises(ValueError) as error:
        TransformerConfig(**kwargs)
    lines = str(error.value).splitlines()
    assert len(lines) == 1 and lines[0].startswith(start), lines


def test_an_input_longer_than_the_range_is_refused():
    model = make(random_positions=8).train()
    with pytest.raises(ValueError, match=r"model\.random_positions=8: must be at least the 12"):
        model(tokens())
