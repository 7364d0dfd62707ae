"""A sweep is checked as a whole before its first job runs; each job goes on with its own run."""

from pathlib import Path

import pytest

import checkpoints
from cli.check import check_job
from cli.compose import composed, plain
from cli.errors import UserError
from cli.overrides import Overrides, jobs_of
from cli.plan import plan_run
from commands import TINY, command_here, write_text


def test_the_jobs_of_a_sweep() -> None:
    jobs = list(jobs_of(Overrides(["+trainer.x=0,1", "rope=pytorch", "optimizer.lr=1e-3,1e-2"])))
    assert jobs == [
        ["+trainer.x=0", "rope=pytorch", "optimizer.lr=0.001"],
        ["+trainer.x=0", "rope=pytorch", "optimizer.lr=0.01"],
        ["+trainer.x=1", "rope=pytorch", "optimizer.lr=0.001"],
        ["+trainer.x=1", "rope=pytorch", "optimizer.lr=0.01"],
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


def test_a_job_from_another_run_is_checked_for_what_is_known_of_it(tmp_path: Path) -> None:
    there = ["init_from=w", "model.n_heads=5"]  # of a width of 40, say, which w will tell
    config = plain(composed("train", there))
    (tmp_path / "w").touch()
    check_job(config | {"init_from": str(tmp_path / "w")}, Overrides(there))
    check_job(config | {"resume": "auto"}, Overrides(there))  # which may not need w
    with pytest.raises(UserError, match="init_from=w: no such file"):
        check_job(config, Overrides(there))
    with pytest.raises(UserError, match="seed=-1"):
        check_job(config | {"resume": "auto", "seed": -1}, Overrides(there))


def test_auto_passes_over_a_run_whose_config_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/mine/1")
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra/config.yaml").write_text("seed: [")
    checkpoints.write(run / "checkpoints/last.ckpt")
    asked = ["name=mine", "resume=auto"]
    assert plan_run(composed("train", asked), Overrides(asked)).run is None
    passed, begins = capsys.readouterr().out.splitlines()
    assert passed.startswith("resume=auto: runs/mine/1: .hydra/config.yaml: is damaged")
    assert passed.endswith("looking for another run") and begins.endswith("a new one begins")
