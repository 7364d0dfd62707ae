"""A run says why it ended, in results.json and in its last lines, also when it goes on later."""

import json
from pathlib import Path

import lightning as L
import pytest

from cli.announce import summarize
from runs import fit
from training.callbacks.ending import Ending

TIMER = "lightning.pytorch.callbacks.Timer"
STOPPING = "lightning.pytorch.callbacks.EarlyStopping"
STOP = (f"+callbacks.stop._target_={STOPPING}", "+callbacks.stop.monitor=val/loss")
NEVER_BETTER = (*STOP, "+callbacks.stop.min_delta=100", "+callbacks.stop.patience=1")


class Enough(L.Callback):
    """A callback of the user's."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == 3


def end(run) -> tuple[str, str]:
    """As results.json has it."""
    results = run.results(1.0)
    run.write_results(results)
    assert json.loads((run.directory / "results.json").read_text()) == results
    return results["ended"], results["why_ended"]


def test_early_stopping_is_said_with_its_key_and_kept(home: Path, capsys) -> None:
    run = fit(home, "early", *NEVER_BETTER)
    kind, why = end(run)
    lines = map(json.loads, (home / "early/metrics.jsonl").read_text().splitlines())
    best = next(line["val/loss"] for line in lines if "val/loss" in line)
    assert kind == "early_stopping" and why == (
        f"stopped early at step 4 of 10: val/loss did not improve on {best:.4f} by 100 in "
        "1 validation (callbacks.stop)"
    )
    capsys.readouterr()
    summarize(run, run.results(1.0), run.directory / "report.html")
    assert capsys.readouterr().out.splitlines()[0] == f"ended     {why}"
    (home / "early/results.json").unlink()
    assert end(fit(home, "early", f"resume={home / 'early'}", *NEVER_BETTER)) == (kind, why)


@pytest.mark.slow
def test_a_threshold_is_said(home: Path) -> None:
    kind, why = end(fit(home, "threshold", *STOP, "+callbacks.stop.stopping_threshold=100"))
    assert kind == "early_stopping" and "at step 2 of 10: Stopping threshold reached: val" in why
    assert why.endswith("< 100 (callbacks.stop)")


@pytest.mark.slow
def test_a_callback_of_the_users_may_ask_for_it(home: Path) -> None:
    assert end(fit(home, "enough", callback=Enough())) == (
        *("callback", "stopped early at step 3 of 10: a callback asked for it"),
    )


@pytest.mark.parametrize(
    ("option", "by"),
    [
        ("trainer.max_time=00:00:00:01", "trainer.max_time"),
        pytest.param(
            *(f"+callbacks.t={{_target_: {TIMER}, duration: '00:00:00:01'}}", "callbacks.t"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_time_that_is_over_is_said(home: Path, option: str, by: str, monkeypatch) -> None:
    def passed(timer, stage: str = "train") -> float:
        return 0 if timer.start_time(stage) is None else 2

    monkeypatch.setattr(f"{TIMER}.time_elapsed", passed)
    kind, why = end(fit(home, by, option, "trainer.accumulate_grad_batches=1"))
    assert (kind, why) == ("max_time", f"stopped early at step 1 of 10: the time is over ({by})")


def test_a_checkpoint_of_before_says_no_reason(home: Path) -> None:
    run = fit(home, "before", callback=Enough())
    ending = Ending(run.ending.limits, {})
    for state in ({}, {"end": None}, {"end": 5}, {"end": ["a", 1]}):
        ending.load_state_dict({"ended": [3, ending.limits], **state})
        assert ending.why(run.trainer) == (
            *("callback", "stopped early at step 3 of 10: a callback asked for it"),
        )


def test_a_whole_run_ends_with_its_last_step(home: Path, capsys) -> None:
    run = fit(home, "whole", *STOP, "trainer.max_steps=2")
    assert end(run) == ("max_steps", "all 2 steps")
    summarize(run, run.results(1.0), run.directory / "report.html")
    assert "ended" not in capsys.readouterr().out
