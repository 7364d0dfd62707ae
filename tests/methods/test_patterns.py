"""Extrapolation methods on models that are not rotated alike in every layer."""

import pytest
import torch

from methods.apply import applied
from methods.method import parse_method
from model import Transformer, TransformerConfig

TRAIN_LENGTH = 32
SIZES = {"n_layers": 2, "d_model": 32, "n_heads": 2}
PATTERN = {"window": 8, "pattern": ["window", "full-nope"]}


def net(**settings: object) -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(**SIZES, train_length=TRAIN_LENGTH, **settings)
    return Transformer(config).eval()


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("rerope@4", PATTERN, "every layer has a window or no positions"),
        ("rerope@4", {"window": 8}, "every layer has a window or no positions"),
        ("window", {"pattern": ["full", "full-nope"]}, "would see what window is to hide"),
        ("sinks", {"pattern": ["full", "full-nope"]}, "would see what sinks is to hide"),
        ("rerope@4", {"position": "alibi"}, "position=alibi has no rotation"),
        ("yarn", {"position": "learned"}, "position=learned has no rotation"),
        ("logn", {"ssmax": True}, "the model has ssmax"),
    ],
)
def test_what_makes_no_sense_is_refused(name, settings, why):
    config = TransformerConfig(**SIZES, train_length=TRAIN_LENGTH, **settings)
    assert why in parse_method(name).refusal(config, TRAIN_LENGTH)


def test_log_n_leaves_windows_as_they_are():
    """A query in a window sees no more keys than it did in training."""
    tokens = torch.randint(256, (1, 4 * TRAIN_LENGTH), generator=torch.Generator().manual_seed(1))
    windows, mixed = net(window=8), net(**PATTERN)
    for model, changes in ((windows, False), (mixed, True)):
        plain = model(tokens)
        with applied(
            parse_method("logn"), model, context=tokens.shape[1], train_length=TRAIN_LENGTH
        ):
            scaled = model(tokens)
        assert torch.equal(scaled, plain) != changes
        assert torch.equal(scaled[:, :TRAIN_LENGTH], plain[:, :TRAIN_LENGTH])


def test_scalings_reach_the_layers_that_rotate():
    model = net(window=8, pattern=["window", "full-nope"])
    before = model.blocks[0].attention.phases.clone()
    with applied(parse_method("yarn@4"), model, context=64, train_length=TRAIN_LENGTH):
        assert not torch.equal(model.blocks[0].attention.phases, before)
    assert torch.equal(model.blocks[0].attention.phases, before)
