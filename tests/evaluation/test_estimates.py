"""Which of several figures is marked as best: differences, their intervals, and chance."""

import math

import numpy as np
import pytest

from evaluation import Cells, Subject, check_settings
from evaluation.cells import Cell, Key
from evaluation.estimates import Paired, Unpaired, best_of, headline_ci95
from evaluation.measurement import Measurement
from evaluation.statistics import difference_ci95, wilson_ci95
from tiny_extrapolation import BYTES as BYTES_OF_TOKENS
from tiny_extrapolation import DOCUMENT, TRAIN_LENGTH, measure, tiny

BYTES = np.full(16, 100)


def losses(seed=0, passages=16, **shifts):
    """Estimates whose passages differ far more than the names do; `shifts` in nats, with noise."""
    rng = np.random.default_rng(seed)
    hard = rng.gamma(20.0, 5.0, passages)
    return {
        name: Paired(hard + shift + rng.normal(0, 0.5, passages), BYTES[:passages])
        for name, shift in shifts.items()
    }


def test_a_difference_of_losses_is_paired_over_passages():
    one, other = losses(a=0, b=1.0).values()
    value, (low, high) = one.less(other)
    assert value == pytest.approx(one.value - other.value)
    # The oracle: passages drawn one by one, with random numbers of its own.
    rng, resampled = np.random.default_rng(7), []
    for _ in range(4000):
        drawn = rng.integers(0, 16, 16)
        nats = [e.nats[drawn].sum() / BYTES[drawn].sum() for e in (one, other)]
        resampled.append((nats[0] - nats[1]) / math.log(2))
    width = high - low
    # 2.1314: Student's t of 15 degrees of freedom; 1.388 % of a normal distribution is outside.
    assert 2.1314 * math.sqrt(16 / 15) == pytest.approx(2.2013, abs=1e-4)
    oracle = np.percentile(resampled, [1.386, 98.614])
    assert [low, high] == pytest.approx(oracle, abs=0.1 * width)
    alone = one.ci95[1] - one.ci95[0]
    assert width < alone / 10 and high < 0  # unpaired, nothing could be said


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_newcombes_own_examples(a, b, low, high):
    shares = [(k / n, wilson_ci95(k, n)) for k, n in (a, b)]
    assert difference_ci95(*shares[0], *shares[1]) == pytest.approx([low, high], abs=6e-5)


def test_best_is_what_beats_every_other_beyond_the_interval():
    far = losses(a=0, b=2.0, c=4.0)
    assert best_of(far, "loss") == ["a"]
    assert best_of(losses(a=0, b=0.01, c=4.0), "loss") == []  # b may be as good
    twice = {**far, "same": far["a"]}
    assert best_of(twice, "loss") == ["a", "same"]
    rounded = Paired(far["a"].nats * (1 + 1e-4), BYTES)  # surely worse, and not to be seen
    assert rounded.less(far["a"])[1][0] > 0 and rounded.value - far["a"].value < 5e-4
    assert best_of({**far, "same": rounded}, "loss") == ["a", "same"]
    assert best_of({"a": far["a"], "same": rounded}, "loss") == []
    assert best_of({"a": far["a"]}, "loss") == [] == best_of({}, "loss")


def test_few_passages_mark_nothing_however_far_apart():
    assert best_of(losses(passages=5, a=0, b=50.0), "loss") == []
    assert best_of(losses(passages=6, a=0, b=50.0), "loss") == ["a"]


@pytest.mark.parametrize("passages", [6, 8, 16])
def test_of_two_that_differ_by_chance_one_in_twenty_is_marked(passages):
    marked = [bool(best_of(losses(s, passages, a=0, b=0), "loss")) for s in range(600)]
    assert 0.02 < np.mean(marked) < 0.08


def test_of_three_it_is_fewer():
    assert np.mean([bool(best_of(losses(s, a=0, b=0, c=0), "loss")) for s in range(300)]) < 0.05


def test_other_measures_by_their_intervals():
    def shares(**correct):
        return {k: Unpaired(n / 110, wilson_ci95(n, 110)) for k, n in correct.items()}

    assert best_of(shares(a=90, b=60), "passkey") == ["a"]
    assert best_of(shares(a=90, b=86), "passkey") == []
    assert best_of(shares(a=90, b=90, c=0), "passkey") == ["a", "b"]
    assert best_of(shares(a=0, b=0), "passkey") == []
    assert best_of({"a": Unpaired(1.0, None), "b": Unpaired(9.0, [8.0, 10.0])}, "positions") == []
    assert best_of({"a": Unpaired(1.0, [0, 2]), "b": Unpaired(9.0, [8, 10])}, "positions") == ["a"]
    assert best_of({"a": Unpaired(1.0, [0, 2]), "b": Unpaired(9.0, [8, 10])}, "attention") == []


def test_the_interval_of_a_headline_is_that_of_its_last_bucket():
    assert headline_ci95({"ci95": [0.1, 0.2]}) == [0.1, 0.2]
    assert headline_ci95({"ci95": [None, [1.0, 2.0]]}) == [1.0, 2.0]
    assert headline_ci95({"ci95": None}) is None is headline_ci95({})


def test_marks_are_in_the_result_of_cells_and_no_random_model_has_any():
    settings = check_settings(TRAIN_LENGTH, methods=["none", "yarn", "linear"], passages=8)
    cells, noise = Cells(), np.random.default_rng(0)
    shift = {("yarn", 32): -1.0, ("yarn", 64): -1.0, ("linear", 64): -1.0}
    hard = noise.gamma(20.0, size=8)
    subject = Subject.in_memory(tiny())
    found = Measurement([subject], [DOCUMENT], BYTES_OF_TOKENS, settings, None, cells)
    for at in found.missing(subject):
        nats = hard + shift.get(at[1:], 0) + noise.normal(0, 0.01, 8)
        cells.add(Key(subject.key, *at), Cell({"nats": nats.tolist()}))
    best = found.result().best["loss"]
    assert best == {"16": [], "32": ["yarn"], "64": [], "128": []}

    unlearnt = measure(tiny(), methods=["none", "yarn", "linear", "ntk", "crop"], passages=12)
    assert unlearnt.best == {"loss": {str(n): [] for n in unlearnt.lengths}}
