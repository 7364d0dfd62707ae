"""What the jobs of a sweep are called, where their runs lie, and what is said between them."""

import pickle
from pathlib import Path

import pytest

from cli.jobs import Sweep, label
from cli.overrides import Overrides
from cli.sweep_directory import sweep_directory


def labels(*lines: str) -> list[str] | None:
    return Sweep(Overrides(lines)).labels


def test_labels_are_what_a_job_has_of_its_own() -> None:
    swept = ["optimizer.lr=1e-3,0.01", "model=nano", "seed=1,2"]
    assert labels(*swept) == [
        "lr=0.001,seed=1",
        "lr=0.001,seed=2",
        "lr=0.01,seed=1",
        "lr=0.01,seed=2",
    ]
    assert labels("rope=pytorch,triton", "seed=3") == ["rope=pytorch", "rope=triton"]
    assert labels("seed=1") == ["run"]


def test_keys_are_whole_where_their_last_parts_are_the_same() -> None:
    found = labels("a.x=1,2", "b.x=3,4", "c.y=5,6")
    assert found and found[0] == "a.x=1,b.x=3,y=5"


def test_labels_are_names_of_directories() -> None:
    assert labels("model.pattern=[window,full-nope],[full]")[0] == "pattern=[window,full-nope]"
    assert labels("a='x/y\\\\z:*',b") == ["a=x_y__z__", "a=b"]
    long = labels(f"a={'x' * 200},{'x' * 201}")
    assert [len(name) for name in long] == [100, 100] and long[0] != long[1]
    assert long[1].endswith("x-job2")
    umlauts = labels(f"a='{'ü' * 99}',b")[0]
    assert len(umlauts.encode()) <= 100 and umlauts.endswith("ü-job1")


def test_repeated_values_have_labels_of_their_own() -> None:
    assert labels("seed=1,1,2,1") == ["seed=1", "seed=1-2", "seed=2", "seed=1-3"]


def test_jobs_that_a_sweeper_finds() -> None:
    command = Overrides(["+x=interval(0,1)", "seed=1", "hydra/sweeper=mine"])
    assert Sweep(command).labels is None
    job = Overrides(["+x=0.25", "seed=1"], command=command)
    assert job.swept == ["x"] and label(job, 7) == "x=0.25"
    assert Overrides(["seed=1"]).swept == []


def test_a_job_in_another_process_finds_the_same_place() -> None:
    sweep = Sweep(Overrides(["seed=1,2", "rope=pytorch"]))
    sweep.directory = Path("runs/mine/1")
    there = pickle.loads(pickle.dumps(sweep)).job(["seed=2", "rope=pytorch"], 1, {})
    assert there.directory == Path("runs/mine/1/seed=2")
    assert there.swept == ["seed"]


def test_runs_are_those_of_jobs_in_their_order(tmp_path: Path) -> None:
    sweep = Sweep(Overrides(["seed=10,9"]))
    sweep.directory = tmp_path
    for name in ("seed=9", "seed=10"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra/config.yaml").touch()
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "comparison.json").touch()
    assert [run.name for run in sweep.runs()] == ["seed=10", "seed=9"]


def test_what_is_said_before_each_job(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sweep = Sweep(Overrides(["seed=0,1,2,3"]))
    sweep.directory = tmp_path / "a b"
    (sweep.directory / "seed=2").mkdir(parents=True)
    (sweep.directory / "seed=2/results.json").touch()
    for number in range(2):
        sweep.announce(sweep.job([f"seed={number}"], number, {}), number)
        sweep.seconds.append(90.0)
    first, one, two = capsys.readouterr().out.splitlines()
    assert first == f"sweep: 4 jobs in {tmp_path}/a b; tensorboard --logdir '{tmp_path}/a b'"
    assert one == "job 1 of 4: seed=0"
    assert two == "job 2 of 4: seed=1 (about 3:00 left)"  # this one and the last


def test_two_sweeps_of_one_second_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = (Sweep(Overrides(["seed=0,1", "position=nope"])) for _ in range(2))
    with sweep_directory(one), sweep_directory(two):
        assert one.directory != two.directory
        assert one.directory.parent == two.directory.parent == Path("runs/stdlib-nano-nope")
        (two.directory / "seed=0").mkdir()
    assert not one.directory.exists() and two.directory.exists()
