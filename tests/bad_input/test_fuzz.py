"""A few trials of the fuzzing (`fuzz.py` runs all), and that it sees what it looks for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fuzz_overrides
from forked import Outcome, forked_call
from fuzz import Workshop, fault_of
from fuzz_files import checkpoint_trial, file_trial
from fuzz_overrides import check_given, override_trial, tried

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="forks cannot train beside a GPU's threads"
)
SEED = 2


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fuzz")
        patch.setenv("ROPEWALK_CACHE", str(folder / "cache"))
        yield Workshop(folder)


@pytest.mark.parametrize("numbers", [range(2), pytest.param(range(2, 150), marks=pytest.mark.slow)])
def test_random_overrides(numbers: range, shop: Workshop) -> None:
    trials = [override_trial(shop, SEED, number) for number in numbers]
    assert not [trial for trial in trials if trial.fault]


@pytest.mark.parametrize("numbers", [range(2), pytest.param(range(2, 100), marks=pytest.mark.slow)])
def test_damaged_files(numbers: range, shop: Workshop) -> None:
    trials = [file_trial(shop, SEED, number) for number in numbers]
    assert not [trial for trial in trials if trial.fault]


@pytest.mark.slow
def test_trials_begin_with_what_is_accepted(shop: Workshop) -> None:
    check_given(shop)


@pytest.mark.parametrize(
    ("done", "written", "fault"),
    [
        (Outcome(2, "", "error: seed=x: must be\n", 0), [], None),
        (Outcome(0, "text", "", 0), ["new"], None),
        (Outcome(None, "", "", 40), [], "it hangs"),
        (Outcome(1, "", "Traceback (most recent call last):\nKeyError: 1", 0), [], "KeyError: 1"),
        (Outcome(2, "", "usage: train.py", 0), [], "another form"),
        (Outcome(2, "", "error: a\n" * 9, 0), [], "another form"),
        (Outcome(2, "", "error: seed=x: must be\n", 0), ["runs/x"], "leaves ['runs/x']"),
        (Outcome(139, "", "", 0), [], "status 139"),
    ],
)
def test_faults_are_told_apart(done: Outcome, written: list, fault: str | None) -> None:
    """Negative control: what would pass without being right."""
    found = fault_of(done, written)
    assert (fault is None) == (found is None) and (fault or "") in (found or ""), found


def test_a_hang_is_ended(tmp_path: Path) -> None:
    """Negative control: of the fork itself."""
    done = forked_call(lambda: (tmp_path / "fifo").open(), cwd=tmp_path, wall=20)
    assert done.status == 1 and "FileNotFoundError" in done.err
    os.mkfifo(tmp_path / "fifo")
    assert forked_call(lambda: (tmp_path / "fifo").open(), cwd=tmp_path, wall=0.2).status is None


def test_damage_that_no_reader_sees_is_a_fault(shop: Workshop, monkeypatch) -> None:
    """Negative control: readers that do not check the digest."""
    monkeypatch.setattr("training.checkpoint_files.damage", lambda path: None)
    faults = (checkpoint_trial(shop, SEED, number, "generate", "flipped") for number in range(20))
    assert any(trial.fault == "damage is not seen" for trial in faults)


@pytest.mark.slow
def test_a_key_without_effect_is_a_fault(shop: Workshop, monkeypatch) -> None:
    """Negative control: a key that cannot be in the weights."""
    monkeypatch.setattr(fuzz_overrides, "IN_WEIGHTS", ("trainer.log_every_n_steps",))
    trial = tried(shop, "train.py", ["trainer.log_every_n_steps=1"], 0)
    assert trial.fault is not None and "trains the same weights" in trial.fault
