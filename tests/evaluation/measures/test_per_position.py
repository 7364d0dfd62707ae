"""Loss by the tokens of context, in buckets of doubling size."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from evaluation.measures.per_position import measure_positions

VOCABULARY = 8


class Knows(nn.Module):
    """Gives the next token of the counting text a score that grows with the context."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls = []

    def forward(self, tokens, logits_to_keep):
        assert logits_to_keep == tokens.shape[1]
        self.calls.append(tuple(tokens.shape))
        after = (tokens + 1) % VOCABULARY
        sure = torch.arange(1, tokens.shape[1] + 1).log()  # ln of the tokens of context
        return nn.functional.one_hot(after, VOCABULARY) * sure[:, None] + self.weight


def counting(n, context):
    return (np.arange(context + 1) + np.arange(n)[:, None]) % VOCABULARY


@pytest.mark.parametrize("context", [1, 2, 3, 4, 11, 16])
def test_buckets_double_and_cover_every_target_once(context):
    result = measure_positions(Knows(), counting(2, context), max_tokens_per_batch=64)
    covered = [
        p for a, b in zip(result["from"], result["to"], strict=True) for p in range(a, b + 1)
    ]
    assert covered == list(range(1, context + 1))
    assert result["from"] == [2**k for k in range(len(result["from"]))]
    assert result["to"][-1] >= 1.5 * result["from"][-1] - 1  # half full at least


def test_loss_is_the_mean_of_the_bucket():
    result = measure_positions(Knows(), counting(3, 11), max_tokens_per_batch=64)

    def nll(position):  # logits: ln p for the right token, 0 for the seven others
        return math.log(position + VOCABULARY - 1) - math.log(position)

    for a, b, value in zip(result["from"], result["to"], result["nll"], strict=True):
        assert value == pytest.approx(np.mean([nll(p) for p in range(a, b + 1)]), rel=1e-6)
    for value, (low, high) in zip(result["nll"], result["ci95"], strict=True):
        assert low == pytest.approx(value) and high == pytest.approx(value)  # passages all alike


def test_interval_is_of_the_passages():
    passages = counting(6, 8)
    passages[:3, 4:] = passages[:3, 4:][:, ::-1]  # half of them are surprising from there on
    result = measure_positions(Knows(), passages, max_tokens_per_batch=16)
    low, high = result["ci95"][-1]
    assert low < result["nll"][-1] < high and high - low > 0.1
    low, high = result["ci95"][1]
    assert high - low < 1e-6
    again = measure_positions(Knows(), passages, max_tokens_per_batch=64)
    assert again["nll"] == pytest.approx(result["nll"]) and again["from"] == result["from"]


def test_one_passage_has_no_interval_and_batches_are_bounded():
    assert measure_positions(Knows(), counting(1, 8), max_tokens_per_batch=8)["ci95"] == [None] * 3
    model, told = Knows(), []
    measure_positions(model, counting(5, 8), max_tokens_per_batch=16, on_forward=told.append)
    assert model.calls == [(2, 8), (2, 8), (1, 8)] and told == [16, 16, 8]
