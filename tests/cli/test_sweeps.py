"""A sweep is checked as a whole before its first job runs; each job goes on with its own run."""

import json
import shutil
from pathlib import Path
from unittest import mock

import pytest

import checkpoints
from cli.check import check_job
from cli.compose import composed, plain
from cli.errors import UserError
from cli.jobs import Sweep
from cli.overrides import Overrides, jobs_of
from cli.plan import plan_run
from cli.rundir import save_config
from cli.sweep_directory import sweep_directory
from commands import TINY, command_here, write_text
from common.lock import hold


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


def losses(sweep: Path) -> dict[str, float]:
    """What each job of a sweep has found, by its label."""
    found = {path.parent.name: path for path in sweep.glob("*/results.json")}
    return {name: json.loads(path.read_text())["val/loss"] for name, path in found.items()}


@pytest.mark.slow
def test_a_sweep_goes_on_in_its_own_directory(tmp_path: Path) -> None:
    """One job has ended, one was killed, one had not begun; then all have ended."""
    write_text(tmp_path / "text.txt")
    options = (*TINY, "data.path=text.txt", "trainer.max_steps=2", "evaluation.methods=[none]")
    sweep = (*options, "callbacks=none", "logger=none", "rope=pytorch", "-m", "-q")
    with mock.patch("cli.sweep.after") as after:
        assert command_here("train.py", *sweep, "seed=0,1", cwd=tmp_path).returncode == 0
        (one,) = tmp_path.glob("runs/text-nano-pytorch/*")
        first, ended = losses(one), (one / "seed=0/results.json").stat()
        assert set(first) == {"seed=0", "seed=1"}
        (one / "seed=1/results.json").unlink()
        (one / "tensorboard").mkdir()  # no run, though it lies where runs do
        done = command_here("train.py", *sweep, "seed=0,1,2", "resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/*/*")) == [one]
    assert {name: losses(one)[name] for name in first} == first
    assert (one / "seed=0/results.json").stat() == ended
    assert done.stdout.count("val/loss") == 2 and "job" not in done.stdout
    runs = [[str(run) for run in call.args[0]] for call in after.call_args_list]
    jobs = [f"runs/text-nano-pytorch/{one.name}/seed={seed}" for seed in range(3)]
    assert runs == [jobs[:2], jobs]
    assert "name: text-nano-pytorch" in (one / "seed=2/.hydra/config.yaml").read_text()


def test_a_sweep_of_another_command_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["position=nope", "seed=0,1", "resume=auto"]
    run = Path("runs/stdlib-nano-nope/1/seed=0")
    (run / ".hydra").mkdir(parents=True)
    save_config(run, plain(composed("train", ["position=nope", "seed=0"])), [])
    (run / "results.json").touch()

    def directory(*more: str) -> Path | None:
        sweep = Sweep(Overrides([*typed, *more]))
        with sweep_directory(sweep):
            return sweep.directory

    assert directory() == run.parent
    assert directory("trainer.max_steps=450") == run.parent
    assert directory("trainer.max_steps=451") != run.parent  # what has ended has other steps
    (run / "results.json").unlink()
    assert directory("trainer.max_steps=451") == run.parent  # what goes on may have more
    assert directory("optimizer.lr=0.5") != run.parent
    lock = hold(run)
    assert directory() != run.parent
    lock.release()
    (run / "results.json").touch()
    shutil.copytree(run, run.with_name("seed=1"))
    assert directory() != run.parent  # there is nothing left to do
    assert [path.name for path in Path("runs/stdlib-nano-nope").iterdir()] == ["1"]


def test_a_job_that_fails_leaves_no_comparison(tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt")
    wrong = ("callbacks.samples._target_=nowhere.Mine", "rope=pytorch")
    with mock.patch("cli.sweep.after") as after:
        done = command_here(
            "train.py", *TINY, "data.path=text.txt", *wrong, "seed=0,1", "-m", cwd=tmp_path
        )
    assert done.returncode == 2 and "nowhere" in done.stderr
    assert "sweep: 2 jobs in runs/text-nano-pytorch/" in done.stdout
    assert not after.called
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["text.txt"]


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
