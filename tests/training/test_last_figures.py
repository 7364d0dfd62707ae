"""The figures that a run ends with, where it was killed after its last step."""

import json
from pathlib import Path

import pytest

from commands import write_text
from runs import fit
from training import Run

OPTIONS = ("trainer.max_steps=4",)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("last-figures")
    write_text(home / "text.txt", 300)
    return home


@pytest.fixture(scope="module")
def whole(home: Path) -> Run:
    """A run that has been trained, and its results not yet written."""
    return fit(home, "run", *OPTIONS)


def only_val_loss(line: str) -> bool:
    return "val/loss" not in line or json.loads(line)["step"] < 4


@pytest.mark.parametrize("left", ["a shorter file", "all"])
def test_they_come_with_the_checkpoint(home: Path, whole: Run, left: str, capsys) -> None:
    path = whole.directory / "metrics.jsonl"
    before, figures = path.read_text(), whole.results(1.0)
    lines = before.splitlines(keepends=True)
    short = "".join(filter(only_val_loss, lines))
    path.write_text(before if left == "all" else short)
    capsys.readouterr()
    resumed = fit(home, "run", f"resume={home / 'run'}", *OPTIONS)
    path.write_text(before)
    said = [line for line in capsys.readouterr().out.splitlines() if "metrics.jsonl" in line]
    assert len(said) == (left != "all") and all("are lost" in line for line in said)
    for key in ("train/loss", "val/loss", "val/loss_last", "best_step"):
        assert resumed.results(1.0)[key] == figures[key]
