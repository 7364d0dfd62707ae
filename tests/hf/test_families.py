"""Small random models of transformers, family by family, against what is read of their folders."""

from pathlib import Path
from typing import Any

import pytest
import torch

import hf
from foreign_models import CASES, FAMILIES, left_padded, prompts, saved
from model import Transformer, generate

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Transformer]]:
    """Of every case asked for: the model of transformers, and ours out of its folder."""
    return {}


def pair(case: str, pairs: dict[str, tuple[Any, Transformer]], folder: Path) -> tuple[Any, Any]:
    if case not in pairs:
        theirs, folder = saved(case, folder)
        pairs[case] = theirs, hf.load(folder, "cpu")
    return pairs[case]


@torch.no_grad()
def same_logits(theirs: Any, ours: Transformer) -> None:
    for tokens in prompts():
        expected = theirs(tokens).logits
        assert expected.std() > 0.05, "logits that say nothing"
        torch.testing.assert_close(ours(tokens), expected, **CLOSE)


@torch.no_grad()
def same_padded(theirs: Any, ours: Transformer) -> None:
    tokens, mask = left_padded(prompts())
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = theirs(tokens, attention_mask=mask, position_ids=positions).logits
    got = ours(tokens, mask=mask)
    torch.testing.assert_close(got[mask == 1], expected[mask == 1], **CLOSE)


@torch.no_grad()
def same_greedy(theirs: Any, ours: Transformer, new: int = 50) -> None:
    """Each of our tokens, read from the cache, is the likeliest to transformers after the others.

    So its own greedy tokens are the same ones.
    """
    prompt = prompts()[1]
    tokens = torch.tensor([list(generate(ours, prompt, max_new_tokens=new, temperature=0, seed=0))])
    logits = theirs(torch.cat((prompt, tokens), dim=1)).logits
    assert tokens[0].tolist() == logits[0, prompt.shape[1] - 1 : -1].argmax(-1).tolist()


@pytest.mark.parametrize("case", FAMILIES)
def test_logits_padding_and_greedy_tokens_are_those_of_transformers(
    case: str, pairs: dict, tmp_path: Path
) -> None:
    theirs, ours = pair(case, pairs, tmp_path)
    assert not ours.training
    same_logits(theirs, ours)
    same_padded(theirs, ours)
    same_greedy(theirs, ours)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES.keys() - set(FAMILIES)))
def test_every_option_of_a_family(case: str, pairs: dict, tmp_path: Path) -> None:
    theirs, ours = pair(case, pairs, tmp_path)
    same_logits(theirs, ours)
    same_padded(theirs, ours)
    same_greedy(theirs, ours)
