"""Keys of Lightning's Trainer: each works, or is refused by name with what works instead."""

import inspect

import lightning as L
import pytest

from training.trainer_rules import REFUSED, RULES, trainer_problems

GOOD = [
    {"deterministic": True},
    {"deterministic": "warn"},
    {"detect_anomaly": False},
    {"max_time": "00:12:00:00"},
    {"max_time": None, "profiler": None},
    {"profiler": "advanced"},
    {"gradient_clip_val": None},
]
BAD = [
    *({"max_time": value} for value in ("xyz", "00:00:00:00", 5, {"hours": 1}, "1:2:3", "9" * 9)),
    *({"deterministic": value} for value in ({}, 1, 0, 1.0, None, "always", [True])),
    *({"detect_anomaly": value} for value in (1, "yes", None)),
    *({"profiler": value} for value in ("pytorch", True, {"_target_": "os.mkdir"})),
    *({"precision": value} for value in ({}, 32, "16", None)),
    *({"max_steps": value} for value in ([1], 1.0, True, "3", -1, 2**60)),
    {"accumulate_grad_batches": 2**20},
    {"_target_": "os.mkdir"},
]


def test_every_key_of_the_installed_lightning_is_ruled() -> None:
    known = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    assert known <= RULES.keys() | REFUSED.keys()
    assert not RULES.keys() & REFUSED.keys()


@pytest.mark.parametrize("settings", GOOD, ids=str)
def test_what_works_is_let_through(settings: dict) -> None:
    assert trainer_problems(settings) == []


@pytest.mark.parametrize("settings", BAD, ids=str)
def test_wrong_values_are_refused(settings: dict) -> None:
    (line,) = trainer_problems(settings)
    assert line.startswith(f"trainer.{next(iter(settings))}=") and "; try trainer." in line


@pytest.mark.parametrize("key", REFUSED)
@pytest.mark.parametrize("value", [0, None, "x"])
def test_what_makes_no_sense_here_is_refused_whatever_its_value(key: str, value: object) -> None:
    (line,) = trainer_problems({key: value})
    assert line.startswith(f"trainer.{key}=") and REFUSED[key] in line
