"""Passkey and copy measures, on models whose answer is known beforehand."""

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data import ByteTokenizer
from data.passkey import is_for_evaluation
from evaluation.measures.copying import measure_copy, measure_repeat
from evaluation.measures.passkey_retrieval import measure_passkey
from evaluation.measures.trials import spread_cuts
from evaluation.statistics import wilson_ci95

STATED = re.compile(rb" \[the key of ([a-z]{5}) is ([0-9]{5})\] ")
ASKED = re.compile(rb" \[the key of ([a-z]{5}) is ([0-9]{0,4})$")

# A Markov chain over 20 letters: the text that a bigram model knows all there is to know of.
NEXT = np.random.default_rng(0).permuted(np.tile(np.arange(20), (20, 1)), axis=1)[:, :3]


def chain(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    tokens, choices = [0], random.integers(0, 3, n)
    for choice in choices[1:]:
        tokens.append(int(NEXT[tokens[-1], choice]))
    return (np.array(tokens) + ord("a")).astype(np.uint8)


DOCUMENTS = [chain(9000, 1), chain(4000, 2)]


class Fake(nn.Module):
    """A model that says `guess(text so far)` after each of the last 260 tokens; keeps its input."""

    def __init__(self, guess) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.guess, self.rows = guess, []

    def forward(self, tokens: Tensor, logits_to_keep: int) -> Tensor:
        logits = torch.zeros(*tokens.shape, 256)
        for logit, row in zip(logits, tokens.tolist(), strict=True):
            text = bytes(row)
            self.rows.append(text)
            for end in range(max(1, len(text) - 260), len(text) + 1):
                logit[end - 1, self.guess(text[:end])] = 1.0
        return logits[:, -logits_to_keep:]


def find_key(text: bytes) -> int:
    """What stands after the name that is asked for."""
    asked = ASKED.search(text[-30:])
    keys = dict(STATED.findall(text))
    return keys[asked[1]][len(asked[2])] if asked and asked[1] in keys else 0


def latest_key(text: bytes) -> int:
    """As `find_key`, whatever the name."""
    asked = ASKED.search(text[-30:])
    stated = STATED.findall(text)
    return stated[-1][1][len(asked[2])] if asked and stated else 0


def copied(text: bytes) -> int:
    """What came after the last 12 tokens when they were there before."""
    at = text.rfind(text[-12:], 0, len(text) - 1)
    return text[at + 12] if at >= 0 else 0


def bigram(text: bytes) -> int:
    return int(NEXT[(text[-1] - ord("a")) % 20, 0]) + ord("a")


def passkey(model: nn.Module, **settings) -> dict:
    given = {"context": 300, "trials": 44, "distractors": 0, "max_tokens_per_batch": 3000}
    return measure_passkey(model, DOCUMENTS, ByteTokenizer(), **(given | settings))


# --- passkey --------------------------------------------------------------------------------


@pytest.mark.parametrize("distractors", [0, 4])
def test_a_model_that_finds_the_key_has_all(distractors: int) -> None:
    seen = []
    result = passkey(Fake(find_key), distractors=distractors, on_forward=seen.append)
    assert result["accuracy"] == result["digit_accuracy"] == 1.0
    assert result["ci95"] == wilson_ci95(44, 44)
    assert result["depths"] == [d / 10 for d in range(11)]
    assert result["correct"] == result["trials"] == [4] * 11
    assert sum(seen) == 44 * 300 and max(seen) <= 3000


def test_a_model_that_says_a_digit_has_what_chance_gives() -> None:
    result = passkey(Fake(lambda _: ord("7")), trials=220)
    assert result["accuracy"] == 0.0 and result["correct"] == [0] * 11
    assert abs(result["digit_accuracy"] - 0.1) < 4 * math.sqrt(0.09 / 1100)


def test_distractors_mislead_a_model_that_reads_no_names() -> None:
    assert passkey(Fake(latest_key))["accuracy"] == 1.0
    misled = passkey(Fake(latest_key), distractors=4)
    assert misled["accuracy"] < 0.5
    assert misled["correct"][10] == misled["trials"][10]  # nothing comes between


@pytest.mark.parametrize("distractors", [0, 1, 4])
@pytest.mark.parametrize("context", [284, 1000])
def test_a_context_is_what_the_format_says(context: int, distractors: int) -> None:
    model = Fake(find_key)
    passkey(model, context=context, distractors=distractors, trials=22)
    for i, text in enumerate(model.rows):
        asked = re.search(rb" \[the key of ([a-z]{5}) is ([0-9]{5})$", text)
        stated = list(STATED.finditer(text))
        assert len(text) == context and len(stated) == 1 + distractors
        assert len({match[1] for match in stated}) == 1 + distractors
        assert all(is_for_evaluation(np.array(int(match[2]))) for match in stated)
        (needle,) = (match for match in stated if match[1] == asked[1])
        assert needle[2] == asked[2]
        assert needle.start() == round(i % 11 / 10 * (context - 27 - 29))
        rest = STATED.sub(b"", text[: asked.start()])
        assert len(rest) == context - 27 - 29 * (1 + distractors) and b"[" not in rest


def test_a_trial_is_the_same_at_every_context_and_batch() -> None:
    def asked(**settings) -> list[bytes]:
        model = Fake(find_key)
        passkey(model, **settings)
        return [text[-27:] for text in model.rows]

    reference = asked(trials=22)
    assert reference == asked(trials=22, context=999, max_tokens_per_batch=1, distractors=3)
    assert reference == asked(trials=33)[:22]
    assert len(set(reference)) == 22
    assert not set(reference) & set(asked(trials=22, seed=1))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"context": 55},
            "context too short: 55 tokens, but a passkey with 0 distractors needs 56",
        ),
        ({"context": 283, "distractors": 4}, "needs 284"),
        ({"context": 9999}, "documents too short: 9972 tokens needed, the longest has 9000"),
        ({"trials": 0}, "trials=0: must be"),
        ({"distractors": 5}, "distractors=5: must be"),
    ],
)
def test_what_cannot_be_measured_is_said(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        passkey(Fake(find_key), **settings)


# --- copying --------------------------------------------------------------------------------


def copying(measure, model: nn.Module, **settings) -> dict:
    given = {"context": 400, "trials": 10, "max_tokens_per_batch": 2000}
    return measure(model, DOCUMENTS, **(given | settings))


@pytest.mark.parametrize("measure", [measure_copy, measure_repeat])
def test_a_copier_gains_all_that_there_is(measure) -> None:
    seen = []
    result = copying(measure, Fake(copied), on_forward=seen.append)
    assert result["accuracy"] > 0.98 and result["control"] < 0.1
    assert result["gain"] == pytest.approx(result["accuracy"] - result["control"])
    low, high = result["ci95"]
    assert 0.85 < low <= result["gain"] <= high <= 1.0
    assert result["trials"] == 10 and sum(seen) == 2 * 10 * 400 and max(seen) <= 2000


@pytest.mark.parametrize("measure", [measure_copy, measure_repeat])
def test_a_bigram_model_gains_nothing(measure) -> None:
    """Negative control: it is right as often as text of the chain allows, with or without."""
    result = copying(measure, Fake(bigram))
    assert 0.25 < result["accuracy"] < 0.42
    assert result["accuracy"] == result["control"]
    assert result["gain"] == 0.0 and result["ci95"] == [0.0, 0.0]


def test_rows_of_the_copy_measure() -> None:
    model = Fake(bigram)
    copying(measure_copy, model, trials=3)
    again, control = model.rows[:3], model.rows[3:]
    for one, other in zip(again, control, strict=True):
        assert len(one) == len(other) == 400
        assert one[:128] == one[-128:] and one[128:] == other[128:]
        assert other[:128] + one[:-128] in bytes(DOCUMENTS[0]) + b"." + bytes(DOCUMENTS[1])


def test_rows_of_the_repeat_measure() -> None:
    model = Fake(bigram)
    copying(measure_repeat, model, trials=2, context=401)
    again, control = model.rows[:2], model.rows[2:]
    for one, other in zip(again, control, strict=True):
        assert one[:200] == one[200:] == other[200:] and len(one) == 400
        assert other in bytes(DOCUMENTS[0]) + b"." + bytes(DOCUMENTS[1])


@pytest.mark.parametrize(
    ("measure", "context", "said"),
    [
        (measure_copy, 255, "context too short: 255 tokens"),
        (measure_repeat, 33, "context too short: 33 tokens"),
        (measure_copy, 9001, "documents too short: 9001 tokens needed, the longest has 9000"),
        (measure_repeat, 9002, "documents too short: 9002 tokens"),
    ],
)
def test_what_is_too_short_is_said(measure, context: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        copying(measure, Fake(bigram), context=context)


# --- cuts and intervals ---------------------------------------------------------------------


@pytest.mark.parametrize(("length", "count", "disjoint"), [(100, 130, True), (100, 200, False)])
def test_cuts_are_spread_and_overlap_only_where_they_must(length, count, disjoint) -> None:
    documents = [np.arange(9000), np.arange(10_000, 14_000), np.arange(50)]
    for seed in (0, 1):
        cuts = spread_cuts(documents, length, count, seed)
        starts = np.array([cut[0] for cut in cuts])
        assert all(np.array_equal(cut, cut[0] + np.arange(length)) for cut in cuts)
        assert (np.diff(starts) >= (length if disjoint else 60)).all()
        assert 85 <= (starts < 9000).sum() * 130 / count <= 95
    assert not np.array_equal(
        *(np.concatenate(spread_cuts(documents, length, 20, seed)) for seed in (0, 1))
    )
