"""A checkpoint that holds code instead of weights: refused by every command, nothing runs."""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from cli.compose import plain
from cli.rundir import save_config
from commands import ROOT, command_here
from training.checkpoint_files import AtomicCheckpointIO, read_checkpoint


class Evil:
    """Makes a directory when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.canary,)


def inside(evil: Evil) -> dict[str, dict[str, Any]]:
    """Checkpoints that have it in different places."""
    return {
        "weights": {"ropewalk": {}, "state_dict": {"net.a": evil}, "global_step": 1},
        "config": {"ropewalk": {"config": {"rope": [evil]}}, "state_dict": {}, "global_step": 1},
        "step": {"ropewalk": {}, "state_dict": {}, "global_step": evil},
        "optimizer": {"ropewalk": {}, "optimizer_states": [{"state": {0: [evil]}}]},
    }


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def run(tmp_path: Path, canary: Path) -> Path:
    """A run's directory whose checkpoints are evil."""
    (tmp_path / "run/.hydra").mkdir(parents=True)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        save_config(tmp_path / "run", plain(compose("train")), [])
    for name in ("best", "last"):
        contents = inside(Evil(canary))["weights"]
        AtomicCheckpointIO().save_checkpoint(contents, tmp_path / f"run/checkpoints/{name}.ckpt")
    return tmp_path / "run"


@pytest.mark.parametrize("place", inside(Evil(Path())))
@pytest.mark.parametrize("zipped", [True, False])
def test_it_is_refused_unread(place: str, zipped: bool, tmp_path: Path, canary: Path) -> None:
    contents, path = inside(Evil(canary))[place], tmp_path / "x.ckpt"
    if zipped:
        AtomicCheckpointIO().save_checkpoint(contents, path)
    else:
        path.write_bytes(pickle.dumps(contents))
    with pytest.raises(ValueError, match=r"checkpoint=.*x\.ckpt: "):
        read_checkpoint(path)
    assert not canary.exists()


def test_it_would_run(tmp_path: Path, canary: Path) -> None:
    """Negative control: a reader that unpickles all there is makes the canary."""
    AtomicCheckpointIO().save_checkpoint(inside(Evil(canary))["weights"], tmp_path / "x.ckpt")
    torch.load(tmp_path / "x.ckpt", weights_only=False)
    assert canary.is_dir()


@pytest.mark.parametrize(
    "command",
    [
        ("train.py", "resume=run"),
        ("train.py", "resume=run/checkpoints/last.ckpt"),
        ("train.py", "init_from=run"),
        ("evaluate.py", "checkpoint=run"),
        ("generate.py", "checkpoint=run", "prompt=a"),
        ("export.py", "checkpoint=run", "output_dir=out"),
    ],
    ids=" ".join,
)
def test_every_command_refuses_it(command: tuple[str, ...], run: Path, canary: Path) -> None:
    done = command_here(*command, cwd=run.parent)
    assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr and not canary.exists()


def test_no_reader_of_ours_unpickles() -> None:
    """Every call of `torch.load` and of Lightning's fit says weights_only=True."""
    rooms = ("cli", "common", "data", "evaluation", "extras", "hf", "methods", "model", "training")
    files = [*ROOT.glob("*.py"), *(path for room in rooms for path in (ROOT / room).rglob("*.py"))]
    found = 0
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pickle\.loads?\(|unsafe_load|full_load|UnsafeLoader", text), path
        for call in re.findall(r"torch\.load\([^)]*\)|trainer\.fit\([^)]*\)", text):
            assert "weights_only=True" in call, (path, call)
            found += 1
    assert found >= 2
