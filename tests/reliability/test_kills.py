"""A run that is killed and resumed ends as the one that was left alone, bit for bit."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Once within everything that a run does; the counts of `kills.places` begin anew with each start.
STORY = ("half-way in a file", "in the evaluation")
LONGER = ("in a validation", "half-way in a file", "after a step of the optimizer", STORY[1])
PROGRAM = """
import sys, tempfile
from pathlib import Path
from kills import Trial
from trials import Home
{before}
with tempfile.TemporaryDirectory() as folder:
    trial = Trial(Home(Path(folder)))
    trial.at_places(*{story})
print(trial)
raise SystemExit(bool(trial.differ))
"""
# What makes a resumed run repeat the data, the random numbers and the validation of its step
FORGETFUL = {
    "where the data are": "from data import TextDataModule\n"
    "TextDataModule._position = lambda self: 0",
    "the random numbers": "import torch, training.module\n"
    "training.module.LanguageModule.on_train_batch_start = lambda self, batch, index: (\n"
    "    setattr(self, 'step_losses', []) if index % 2 == 0 else None)",
    "what was logged": "import training.run\ntraining.run.Run._take_back = lambda self: None",
}


def trial(story: tuple[str, ...], before: str = "") -> subprocess.CompletedProcess[str]:
    """A run killed at these places, in a process that has changed something `before`."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(story=story, before=before)],
        capture_output=True,
        text=True,
        cwd=HERE,
        timeout=280,
    )


@pytest.mark.slow
@pytest.mark.parametrize("story", [STORY, LONGER])
def test_a_run_killed_and_killed_again_ends_like_the_one_that_was_left_alone(
    story: tuple[str, ...],
) -> None:
    done = trial(story)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{len(story)} kills in 1 runs")


@pytest.mark.slow
@pytest.mark.parametrize("forgotten", FORGETFUL)
def test_a_run_that_forgets_something_would_be_seen(forgotten: str) -> None:
    done = trial(("in a validation",), FORGETFUL[forgotten])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 runs differ" in done.stdout


@pytest.mark.slow
def test_twenty_kills() -> None:
    command = [sys.executable, "kills.py", "--kills", "20", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
