"""Which run goes on and from which checkpoint, where some of them are damaged."""

import shlex
from pathlib import Path

import pytest
import torch

import checkpoints
from cli.errors import UserError
from cli.unfinished import find_run, find_unfinished

STEPS = ("step-00000010.ckpt", "step-00000020.ckpt")


def make_run(run: Path, *names: str) -> Path:
    """A run directory with these checkpoints."""
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra/config.yaml").write_text("seed: 0\n")
    for name in names:
        checkpoints.write(run / "checkpoints" / name)
    return run


def damage(path: Path) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch) -> Path:
    """Two runs of the name `mine`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for stamp in ("1", "2"):
        make_run(Path("runs/mine") / stamp, "last.ckpt", "best.ckpt", *STEPS)
    return Path("runs/mine")


def test_the_last_one_of_the_newest_run_without_a_word(runs: Path, capsys) -> None:
    assert find_unfinished(None, "mine") == (runs / "2", runs / "2/checkpoints/last.ckpt")
    assert find_unfinished(str(runs / "1"), "mine")[0] == runs / "1"
    (runs / "2/results.json").touch()
    assert find_unfinished(None, "mine")[0] == runs / "1"
    assert find_unfinished(None, "others") is None
    assert capsys.readouterr().out == ""


def test_auto_falls_back_step_by_step_and_says_so(runs: Path, capsys) -> None:
    directory = runs / "2/checkpoints"
    damage(directory / "last.ckpt")
    damaged = ["last.ckpt"]
    for name in (STEPS[1], STEPS[0], "best.ckpt"):
        assert find_unfinished(str(runs / "2"), "mine") == (runs / "2", directory / name)
        line = capsys.readouterr().out
        assert line.startswith(
            "resume=auto: runs/mine/2: last.ckpt is damaged (its sha256 differs)"
        )
        assert line.endswith(f": going on from {name}\n") and line.count("\n") == 1
        assert all(f" {other} is damaged (its sha256 differs)" in line for other in damaged)
        damage(directory / name)
        damaged.append(name)


def test_auto_passes_over_whole_files_of_refused_contents(runs: Path, capsys) -> None:
    directory = runs / "2/checkpoints"
    weights = checkpoints.contents()["state_dict"]
    nan = weights | {"net.norm.weight": torch.full((16,), float("nan"))}
    checkpoints.write(directory / "last.ckpt", state_dict=nan)
    assert find_unfinished(None, "mine")[1] == directory / STEPS[1]
    line = capsys.readouterr().out
    assert "last.ckpt is refused: not a whole checkpoint (state_dict: net.norm.weight" in line
    assert line.endswith(f"going on from {STEPS[1]}\n")
    for path in directory.iterdir():
        checkpoints.write(path, loops=None)
    assert find_unfinished(None, "mine")[0] == runs / "1"
    with pytest.raises(
        UserError, match=r"no checkpoint .* is whole \(last.ckpt is refused: .*loop"
    ):
        find_unfinished(str(runs / "2"), "mine")


def test_auto_does_without_a_last_one(runs: Path, capsys) -> None:
    (runs / "2/checkpoints/last.ckpt").unlink()
    assert find_unfinished(None, "mine")[1] == runs / "2/checkpoints" / STEPS[1]
    assert "last.ckpt is missing: going on from step-00000020.ckpt" in capsys.readouterr().out


def test_with_none_that_is_whole_auto_goes_to_the_next_run_or_refuses(runs: Path, capsys) -> None:
    for path in (runs / "2/checkpoints").iterdir():
        damage(path)
    assert find_unfinished(None, "mine") == (runs / "1", runs / "1/checkpoints/last.ckpt")
    said = "no checkpoint in there is whole (last.ckpt is damaged (its sha256 differs))"
    assert f"resume=auto: runs/mine/2: {said}; looking for another" in capsys.readouterr().out
    with pytest.raises(UserError) as error:
        find_unfinished(str(runs / "2"), "mine")
    assert str(error.value).startswith(f"run_dir=runs/mine/2: {said}")
    make_run(runs / "3")  # ended before its first checkpoint: nothing to say
    assert find_unfinished(None, "mine")[0] == runs / "1"


def test_a_run_by_its_path_is_refused_with_the_command_that_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "my run", "last.ckpt", "best.ckpt", *STEPS)
    assert find_run(str(run)) == (run, run / "checkpoints/last.ckpt")
    damage(run / "checkpoints/last.ckpt")
    for resume in (run, run / "checkpoints/last.ckpt"):
        with pytest.raises(UserError) as error:
            find_run(str(resume))
        text = str(error.value)
        assert f"resume={resume}: last.ckpt is damaged (its sha256 differs); the newest" in text
        command = text.partition("goes on with: ")[2]
        assert command == f"python train.py 'resume={run}/checkpoints/step-00000020.ckpt'"
        assert find_run(shlex.split(command)[2].removeprefix("resume="))[0] == run
    (run / "checkpoints/last.ckpt").unlink()
    with pytest.raises(UserError, match=r"last.ckpt is missing; the newest .*step-00000020.ckpt'"):
        find_run(str(run))
    for path in (run / "checkpoints").iterdir():
        damage(path)
    with pytest.raises(UserError, match=r"is missing, and no other one in there is whole"):
        find_run(str(run))


@pytest.mark.parametrize("resume", ["nothing", "empty", "empty/x", "\0", "x" * 5000], ids=range(5))
def test_what_is_no_run(resume: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "empty")
    with pytest.raises(UserError, match="holds no run to go on with; give a run directory"):
        find_run(resume)
