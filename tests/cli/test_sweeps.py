"""A sweep is checked as a whole before its first job runs."""

from pathlib import Path

import pytest

from cli.overrides import Overrides, jobs_of
from commands import TINY, command_here, write_text


def test_the_jobs_of_a_sweep() -> None:
    jobs = list(jobs_of(Overrides(["seed=0,1", "rope=pytorch", "optimizer.lr=1e-3,1e-2"])))
    assert jobs == [
        ["seed=0", "rope=pytorch", "optimizer.lr=0.001"],
        ["seed=0", "rope=pytorch", "optimizer.lr=0.01"],
        ["seed=1", "rope=pytorch", "optimizer.lr=0.001"],
        ["seed=1", "rope=pytorch", "optimizer.lr=0.01"],
    ]


@pytest.mark.parametrize(
    ("swept", "said"),
    [
        ("seed=0,x", "seed=x: must be an integer"),
        ("optimizer.lr=0.001,-1", "optimizer.lr=-1: must be"),
        ("model.n_heads=2,3", "model.n_heads=3: must divide"),
    ],
)
def test_a_wrong_value_is_told_before_the_first_job(swept: str, said: str, tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt")
    done = command_here("train.py", *TINY, "data.path=text.txt", swept, "-m", cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_each_job_goes_on_with_its_own_run(tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt")
    options = (*TINY, "data.path=text.txt", "trainer.max_steps=2", "evaluation.methods=[none]")
    sweep = (*options, "callbacks=none", "logger=none", "name=mine", "seed=0,1", "-m")
    assert command_here("train.py", *sweep, cwd=tmp_path).returncode == 0
    runs = sorted(tmp_path.glob("runs/mine/*"))
    for run in runs:
        (run / "results.json").unlink()  # as if it had been killed before
    done = command_here("train.py", *sweep, "resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.glob("runs/mine/*")) == runs
    assert all((run / "results.json").exists() for run in runs)


def test_a_run_within_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a/.hydra").mkdir(parents=True)
    write_text(tmp_path / "text.txt")
    done = command_here("train.py", *TINY, "data.path=text.txt", "run_dir=a/b/c", cwd=tmp_path)
    assert done.returncode == 2 and "run_dir=a/b/c: a is a run; take" in done.stderr
