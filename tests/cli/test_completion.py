"""Tab completion: asked as the shell asks, it knows options and keys, and is fast."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import ROOT, command_here


def query(line: str, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What may follow `line`."""
    monkeypatch.setenv("COMP_LINE", line)
    done = command_here(line.split()[1], "-sc", "query=bash", cwd=cwd)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.split()


def test_options_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def after(line: str) -> list[str]:
        return query(line, tmp_path, monkeypatch)

    assert after("python train.py rope=") == ["rope=auto", "rope=pytorch", "rope=triton"]
    assert after("python train.py --quiet model=mini model.n_heads=") == ["model.n_heads=6"]
    assert "resume=" in (words := after("python train.py "))
    assert not [word for word in words if word.startswith(("hydra", "phases", "_"))]
    assert after("python train.py 'half") == []
    assert after("python evaluate.py accelerator=") == ["accelerator=auto"]


def test_options_of_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my/model").mkdir(parents=True)
    (tmp_path / "my/model/wide.yaml").write_text("d_model: 64\n")
    line = "python train.py --config-dir my model=w"
    assert query(line, tmp_path, monkeypatch) == ["model=wide"]


def test_what_is_no_shell_is_refused(tmp_path: Path) -> None:
    done = command_here("train.py", "-sc", "install=cmd", cwd=tmp_path)
    assert done.returncode == 2 and "install=bash" in done.stderr


@pytest.mark.slow
def test_bash_itself_is_answered_without_torch() -> None:
    """The documented command, then the function that bash calls when Tab is pressed."""
    script = """
        eval "$(python train.py -sc install=bash)"
        export COMP_LINE='python train.py rope=t' COMP_POINT=22 COMP_CWORD=2
        hydra_bash_completion
        echo "${COMPREPLY[@]}"
        python -X importtime train.py -sc query=bash 2>&1 >/dev/null | grep -c ' torch$'
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["rope=triton", "0"], done.stderr
