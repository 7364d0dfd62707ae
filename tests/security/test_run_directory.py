"""A run's directory that somebody else made, or that another process is training."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from cli.errors import UserError
from cli.overrides import Overrides
from cli.plan import Plan, plan_run
from cli.rundir import RUNS, claim, evaluation_directory, free_directory
from commands import ROOT, command_here
from common.lock import is_held, release_all
from runs import SETTINGS, Killed, fit


@pytest.fixture(scope="module")
def cut(home: Path) -> Path:
    """A run that ended at step 3 of 10, with a checkpoint of step 2."""
    with pytest.raises(Killed):
        fit(home, "cut", stop=2)
    release_all()
    return home / "cut"


@pytest.fixture
def run(cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, `runs/mine/1`, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cut, RUNS / "mine/1")
    return RUNS / "mine/1"


@pytest.fixture(autouse=True)
def end_of_the_job() -> Any:
    yield
    release_all()


def plan(*overrides: str) -> Plan:
    """What train.py would do, as it knows before it writes anything."""
    release_all()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return plan_run(compose("train", list(overrides)), Overrides(list(overrides)))


def auto(cut: Path) -> Plan:
    """`resume=auto` with the same settings as the run."""
    return plan(*SETTINGS, f"data.path={cut.parent / 'text.txt'}", "name=mine", "resume=auto")


# One process at a time


class Holder:
    """Another process that holds a run."""

    def __init__(self, run: Path) -> None:
        script = "import sys\nfrom pathlib import Path\nfrom common.lock import hold\n"
        script += "hold(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(run.resolve())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "held\n"

    def __enter__(self) -> int:
        return self.process.pid

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()


def test_a_run_that_another_process_trains_is_refused_by_name(run: Path) -> None:
    with Holder(run) as pid:
        for asked in (f"resume={run}", f"resume={run}/checkpoints/best.ckpt"):
            with pytest.raises(UserError, match=f"process {pid} on host .* is training it; wait"):
                plan(asked)
    assert plan(f"resume={run}").run == run  # negative control: it is free by now
    assert is_held(run)  # by us


def test_resume_auto_passes_over_runs_that_are_held(run: Path, cut: Path) -> None:
    shutil.copytree(cut, RUNS / "mine/2")
    assert auto(cut).run == RUNS / "mine/2"  # the newest
    release_all()
    with Holder(RUNS / "mine/2"):
        assert auto(cut).run == run
        release_all()
        with Holder(run):
            assert auto(cut).run is None  # a new one begins
        with pytest.raises(UserError, match="resume=auto run_dir=runs/mine/2: process"):
            plan(*SETTINGS, "run_dir=runs/mine/2", "resume=auto", f"data.path={cut}/../text.txt")


def test_a_held_run_without_a_checkpoint_is_refused_as_well(run: Path, cut: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    typed = (*SETTINGS, f"run_dir={run}", "resume=auto", f"data.path={cut}/../text.txt")
    with Holder(run), pytest.raises(UserError, match="is training it"):
        plan(*typed)
    assert plan(*typed)[1:3] == (run, None)


def test_the_lock_is_taken_before_anything_is_read(run: Path) -> None:
    (run / ".hydra/config.yaml").write_text("")
    with Holder(run), pytest.raises(UserError, match="is training it"):
        plan(f"resume={run}")


def test_the_loser_of_a_race_takes_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = free_directory(None, "mine")
    assert claim(path) and claim(path) is None  # we were faster than ourselves
    release_all()
    assert (other := free_directory(None, "mine")) != path and claim(other)
    assert claim(Path("runs/exact"))
    with pytest.raises(UserError, match="run_dir=runs/exact: already holds a run"):
        free_directory("runs/exact", "other")
    os.symlink("nowhere", "dangling")
    with pytest.raises(UserError, match="run_dir=dangling: cannot be made"):
        claim(free_directory("dangling", "other"))


def test_two_evaluations_in_one_directory(run: Path) -> None:
    directory = evaluation_directory(run, "mine")
    release_all()
    with Holder(directory) as pid, pytest.raises(UserError, match=f"process {pid} .* is writing"):
        evaluation_directory(run, "mine")
    assert evaluation_directory(run, "mine") == directory


# Links


PARTS = ("checkpoints", "tensorboard", "metrics.jsonl", "samples.txt", ".hydra", ".lock")
PARTS += (".hydra/config.yaml", "checkpoints/best.ckpt", "evaluations", "results.json", "deep/er")


@pytest.mark.parametrize("part", PARTS)
def test_a_link_that_leads_out_is_refused_by_name(part: str, run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    path = run / part
    if path.exists():
        os.replace(path, outside)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(outside)
    before = outside.stat() if outside.exists() else None
    with pytest.raises(UserError) as error:
        plan(f"resume={run}")
    assert f"resume={run}: {path} leads out of the run by a link, to {outside}" in str(error.value)
    assert (outside.stat() if outside.exists() else None) == before


def test_a_link_within_the_run_and_one_to_it_are_taken(run: Path, tmp_path: Path) -> None:
    (run / "newest.ckpt").symlink_to("checkpoints/last.ckpt")
    (tmp_path / "link").symlink_to(run)
    assert plan("resume=link").run == Path("link")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused(run: Path) -> None:
    os.mkfifo(run / "metrics.pipe")
    with pytest.raises(UserError, match=r"metrics\.pipe is neither a file nor a directory"):
        plan(f"resume={run}")


def test_an_evaluation_stays_in_its_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (run / "evaluations").symlink_to(tmp_path / "outside")
    for output_dir in (None, f"{run}/evaluations/mine"):
        with pytest.raises(UserError, match="leads out of the run by a link"):
            evaluation_directory(run / "evaluations", output_dir)
    assert not any((tmp_path / "outside").iterdir())
    (run / "evaluations").unlink()
    kept = evaluation_directory(run, f"{run}/evaluations/mine")
    release_all()
    (kept / "cells.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match=r"cells\.jsonl leads out of the run"):
        evaluation_directory(run, f"{run}/evaluations/mine")


# The config and the checkpoint beside it


def edit(run: Path, **values: Any) -> None:
    config = OmegaConf.load(run / ".hydra/config.yaml")
    for key, value in values.items():
        OmegaConf.update(config, key, value, force_add=True)
    OmegaConf.save(config, run / ".hydra/config.yaml")


def test_what_is_fixed_must_be_the_checkpoints(run: Path) -> None:
    edit(run, **{"optimizer.lr": 0.5})
    with pytest.raises(UserError, match=r"optimizer.lr=0.5, which is 0.003 in the checkpoint"):
        plan(f"resume={run}")


def test_a_config_cut_between_lines_is_seen(run: Path) -> None:
    path = run / ".hydra/config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    cuts = range(4, len(lines), 23)
    for number in cuts:
        path.write_text("".join(lines[:number]))
        with pytest.raises(UserError, match=r"\.hydra/config\.yaml: .*(missing|must be a group)"):
            plan(f"resume={run}")
    path.write_text("".join(lines))
    assert plan(f"resume={run}").run == run  # negative control


def test_a_resumed_run_leaves_out_what_it_may_not_make(run: Path, tmp_path: Path) -> None:
    """The attacks that ran before, through the real command."""
    payload = {"_target_": "os.mkdir", "path": str(tmp_path / "canary")}
    edit(run, **{"trainer.limit_val_batches": [payload]}, **{"callbacks.evil": payload})
    edit(run, **{"logger.evil": {"more": [{"a": [payload]}]}, "trainer.max_time": "00:08:00:00"})
    before = (run / ".hydra/config.yaml").read_bytes()
    done = command_here("train.py", f"resume={run}", "evaluation.lengths=[32]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    left = "left out trainer.limit_val_batches, callbacks.evil, logger.evil; type it again"
    assert f"resume={run}: {left}" in done.stdout
    assert not (tmp_path / "canary").exists() and not is_held(run)
    assert (run / "results.json").exists() and (run / ".hydra/config.yaml").read_bytes() != before
    assert OmegaConf.load(run / ".hydra/config.yaml").trainer.max_time == "00:08:00:00"
    instantiate({"a": [payload]})  # negative control: it would have run
    assert (tmp_path / "canary").is_dir()


def test_a_text_that_the_checkpoint_does_not_name_is_not_looked_at(run: Path, cut: Path) -> None:
    config = OmegaConf.load(run / ".hydra/config.yaml")
    config.data.path = "/"
    OmegaConf.save(config, run / ".hydra/config.yaml")
    with pytest.raises(UserError, match=r"data\.path=/, which is .* \(type data\.path= for a text"):
        plan(f"resume={run}")
    typed = f"data.path={cut.parent / 'text.txt'}"
    assert plan(f"resume={run}", typed).config["data"]["path"] == str(cut.parent / "text.txt")
