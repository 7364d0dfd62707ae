"""What may be drawn: against transformers' own processors, and the order that they are used in."""

import pytest
import torch

from model.sampling import Sampling, draw, kept

V = 50


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seen(count: int, *ids: int) -> torch.Tensor:
    return torch.isin(torch.arange(count), torch.tensor(ids))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "how",
    [
        Sampling(top_p=0.9),
        Sampling(top_p=0.01),
        Sampling(min_p=0.1),
        Sampling(top_k=7, top_p=0.7),
        Sampling(0.5, top_k=20, top_p=0.95, min_p=0.05),
        Sampling(1.7, min_p=0.3, repetition_penalty=1.4),
    ],
)
def test_it_is_as_in_transformers(how: Sampling, seed: int) -> None:
    processors = pytest.importorskip("transformers.generation.logits_process")
    read = torch.tensor([3, 5, 5, 40])
    chain = [processors.RepetitionPenaltyLogitsProcessor(how.repetition_penalty)]
    chain += [processors.TemperatureLogitsWarper(how.temperature)]
    chain += [processors.TopKLogitsWarper(how.top_k)] if how.top_k else []
    chain += [processors.TopPLogitsWarper(how.top_p)] if how.top_p else []
    chain += [processors.MinPLogitsWarper(how.min_p)] if how.min_p else []
    wanted = logits(seed)[None]
    for process in chain:
        wanted = process(read[None], wanted)
    probabilities = wanted[0].softmax(dim=-1)
    counts = torch.zeros(V)
    random = torch.Generator().manual_seed(0)
    for _ in range(300):
        counts[draw(logits(seed), seen(V, 3, 5, 40), how, random)] += 1
    assert (counts[probabilities == 0] == 0).all()
    error = (counts / 300 - probabilities).abs()
    assert (error <= 5 * (probabilities * (1 - probabilities) / 300).sqrt() + 1e-9).all()


def test_the_kept_tokens_are_those_that_reach_the_share() -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()

    def left(how: Sampling) -> list[int]:
        return kept(shares, how).isfinite().nonzero().flatten().tolist()

    assert left(Sampling(top_p=0.49)) == [0] and left(Sampling(top_p=0.51)) == [0, 1]
    assert left(Sampling(top_p=0.81)) == [0, 1, 2]
    assert left(Sampling(min_p=0.31)) == [0, 1] and left(Sampling(min_p=0.29)) == [0, 1, 2]
    assert left(Sampling()) == [0, 1, 2, 3]


def test_what_was_read_is_less_likely_whatever_its_sign() -> None:
    random, penalty = torch.Generator(), Sampling(temperature=0, repetition_penalty=2.0)
    both = torch.tensor([3.0, 2.0, -1.0])
    assert draw(both, seen(3, 0), penalty, random) == 1
    assert draw(both, seen(3, 0, 1), penalty, random) == 0
    assert draw(torch.tensor([-1.0, -1.5]), seen(2, 0), penalty, random) == 1
    assert draw(both, seen(3, 0), Sampling(0), random) == 0  # without
