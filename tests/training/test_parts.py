"""Callbacks and loggers of the user's: made, or refused by their key."""

from pathlib import Path

import lightning as L
import pytest

from training.parts import blamed, build_callbacks, build_loggers

LIGHTNINGS = "lightning.pytorch.callbacks."
STOPPING = {"_target_": LIGHTNINGS + "EarlyStopping", "monitor": "val/loss"}
CSV = {"_target_": "lightning.pytorch.loggers.CSVLogger"}
TENSORBOARD = {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "name": ""}


def test_null_is_without_it(tmp_path: Path) -> None:
    assert build_callbacks({"a": None}) == {} and build_loggers({"a": None}, tmp_path) == {}


@pytest.mark.parametrize("name", ["LearningRateMonitor", "Timer"])
def test_what_works_is_made(name: str) -> None:
    assert type(build_callbacks({"x": {"_target_": LIGHTNINGS + name}})["x"]).__name__ == name
    assert build_callbacks({"x": STOPPING})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (5, "must be null, or a group"),
        ({"a": 1}, "must be null, or a group"),
        ({"_target_": "os.mkdir", "path": "made"}, "must be a Callback"),
        ({"_target_": "collections.OrderedDict"}, "must be a Callback"),
        ({"_target_": "nope.Foo"}, "No module named"),
        ({"_target_": LIGHTNINGS + "Nope"}, "no attribute"),
        ({"_target_": LIGHTNINGS + "Timer", "zzz": 1}, "zzz"),
        ({"_target_": LIGHTNINGS + "Timer", "duration": "long"}, "DD:HH:MM:SS"),
        ({"_target_": LIGHTNINGS + "Timer", "_partial_": True}, "_partial_"),
        ({"_target_": LIGHTNINGS + "StochasticWeightAveraging", "swa_lrs": 0.1}, "counts epochs"),
        ({"_target_": LIGHTNINGS + "LearningRateFinder"}, "batches of its own"),
        ({"_target_": LIGHTNINGS + "RichProgressBar"}, "in the way of callbacks.progress"),
        (STOPPING | {"monitor": "nope"}, "try callbacks.x.monitor=val/loss"),
    ],
)
def test_a_callback_that_cannot_be_used(entry: object, said: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"callbacks\.x") as refusal:
        build_callbacks({"x": entry})
    assert said in str(refusal.value) and len(str(refusal.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (CSV | {"save_dir": "X"}, "logger.x.save_dir=X: is set by train.py"),
        (CSV | {"name": 3, "version": []}, "logger.x: has no directory"),
        (TENSORBOARD | {"version": "../../x"}, "outside the run"),
        (TENSORBOARD | {"version": "checkpoints"}, "/checkpoints, which the run keeps for itself"),
        (TENSORBOARD | {"version": ".hydra/x"}, "which the run keeps for itself"),
        (CSV | {"name": "metrics.jsonl"}, "which the run keeps for itself"),
        (TENSORBOARD | {"sub_dir": "../../x"}, "outside the run"),
        ({"_target_": LIGHTNINGS + "Timer"}, "must be a Logger"),
    ],
)
def test_a_logger_that_cannot_be_used(entry: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"logger\.x") as refusal:
        build_loggers({"x": entry}, tmp_path / "run")
    assert said in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_loggers_write_into_the_run_and_not_yet(tmp_path: Path) -> None:
    made = build_loggers({"x": CSV, "y": TENSORBOARD}, tmp_path / "run")
    assert {type(logger).__name__ for logger in made.values()} == {"CSVLogger", "TensorBoardLogger"}
    assert all(str(logger.save_dir) == str(tmp_path / "run") for logger in made.values())
    assert list(tmp_path.iterdir()) == []


def test_the_part_that_raised_is_blamed() -> None:
    class Failing(L.Callback):
        def setup(self, *_: object) -> None:
            raise TypeError

    good, failing = L.Callback(), Failing()
    with pytest.raises(TypeError) as raised:
        failing.setup()
    parts = {"callbacks.good": good, "callbacks.failing": failing}
    assert blamed(raised.value, parts) == "callbacks.failing"
    assert blamed(raised.value, {"callbacks.good": good}) is None
