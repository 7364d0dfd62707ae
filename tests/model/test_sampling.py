"""What may be drawn: against transformers' own processors, and the order that they are used in."""

import pytest
import torch

from model.sampling import Sampler, Sampling, draw, kept

V = 50


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chosen(logits: torch.Tensor, read: list[int], how: Sampling) -> int:
    sampler = Sampler(how, [0], logits.shape[-1])
    sampler.begin(torch.tensor([read]))
    return int(sampler(logits[None]))


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
    tokens = torch.tensor([3, 5, 5, 40])
    chain = [processors.RepetitionPenaltyLogitsProcessor(how.repetition_penalty)]
    chain += [processors.TemperatureLogitsWarper(how.temperature)]
    chain += [processors.TopKLogitsWarper(how.top_k)] if how.top_k else []
    chain += [processors.TopPLogitsWarper(how.top_p)] if how.top_p else []
    chain += [processors.MinPLogitsWarper(how.min_p)] if how.min_p else []
    wanted = logits(seed)[None]
    for process in chain:
        wanted = process(tokens[None], wanted)
    probabilities = wanted[0].softmax(dim=-1)
    sampler = Sampler(how, range(300), V)
    sampler.begin(tokens.repeat(300, 1))
    counts = sampler(logits(seed).repeat(300, 1)).bincount(minlength=V)
    assert (counts[probabilities == 0] == 0).all()
    error = (counts / 300 - probabilities).abs()
    assert (error <= 5 * (probabilities * (1 - probabilities) / 300).sqrt() + 1e-9).all()


def test_a_nucleus_of_many_tokens_is_the_same(monkeypatch) -> None:
    rows = torch.stack([scale * logits(0) for scale in (3, 0.5, 0.1)])
    whole = kept(rows, Sampling(top_p=0.8))
    assert len(set(whole.isfinite().sum(-1).tolist())) == 3
    for few in (1, 3, 20):
        monkeypatch.setattr("model.sampling.FEW", few)
        assert torch.equal(kept(rows, Sampling(top_p=0.8)), whole)


def test_the_kept_tokens_are_those_that_reach_the_share() -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()

    def left(how: Sampling) -> list[int]:
        both = kept(torch.stack((shares, shares.flip(0))), how).isfinite()  # row by row
        assert torch.equal(both[0], both[1].flip(0))
        return both[0].nonzero().flatten().tolist()

    assert left(Sampling(top_p=0.49)) == [0] and left(Sampling(top_p=0.51)) == [0, 1]
    assert left(Sampling(top_p=0.81)) == [0, 1, 2]
    assert left(Sampling(min_p=0.31)) == [0, 1] and left(Sampling(min_p=0.29)) == [0, 1, 2]
    assert left(Sampling()) == [0, 1, 2, 3]


def test_what_was_read_is_less_likely_whatever_its_sign() -> None:
    penalty = Sampling(temperature=0, repetition_penalty=2.0)
    both = torch.tensor([3.0, 2.0, -1.0])
    assert chosen(both, [0], penalty) == 1
    assert chosen(both, [0, 1], penalty) == 0
    assert chosen(torch.tensor([-1.0, -1.5]), [0], penalty) == 1
    assert chosen(both, [0], Sampling(0)) == 0  # without
    sampler = Sampler(penalty, [0], 3)
    sampler.begin(torch.tensor([[1, 2]]), torch.tensor([[False, True]]))  # 1 fills the row up
    assert [int(sampler(both[None])) for _ in range(2)] == [0, 1]  # what is drawn has been read


def test_the_number_says_which_part_of_the_interval_it_falls_into() -> None:
    shares = torch.tensor([[0.0, 0.5, 0.0, 0.25, 0.25, 0.0]], dtype=torch.float64).log()
    numbers = torch.tensor([0.0, 0.4999, 0.5001, 0.7499, 0.7501, 1 - 2**-53], dtype=torch.float64)
    drawn = draw(shares.expand(6, -1), numbers, Sampling())
    assert drawn.tolist() == [1, 1, 3, 3, 4, 4]


def test_a_row_draws_the_same_whatever_is_beside_it() -> None:
    rows = torch.stack([logits(seed) for seed in range(4)])

    def three(rows: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        sampler = Sampler(Sampling(top_p=0.9), seeds, V)
        return torch.stack([sampler(rows) for _ in range(3)])

    together = three(rows, [5, 6, 7, 7])
    for row, seed in enumerate([5, 6, 7, 7]):
        assert torch.equal(together[:, row], three(rows[row : row + 1], [seed])[:, 0])


def test_tokens_past_the_vocabulary_of_the_text_are_not_drawn() -> None:
    high = torch.arange(6.0)[None].repeat(50, 1)
    for how in (Sampling(0), Sampling(9.0), Sampling(1.0, repetition_penalty=2.0)):
        sampler = Sampler(how, range(50), 4)
        sampler.begin(torch.tensor([[5, 0]]).repeat(50, 1))
        assert int(sampler(high).max()) == 3
