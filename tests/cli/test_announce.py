"""What is printed stands there as it is, and commands can be pasted into a shell."""

import shlex
from pathlib import Path

import pytest

from cli.announce import announce, summarize
from cli.errors import UserError
from cli.rundir import check_free, save_config
from runs import fit

NAMES = ("try[a]", "[red]a[/red]", "a b", "it's", "$HOME", ":smile:", 'say "hi"', "a;b", "a\\[b]")


@pytest.fixture(scope="module")
def run(home: Path):
    one_step = ("trainer.max_steps=1", "trainer.val_check_interval=1")
    return fit(home, "run", *one_step, "logger=tensorboard")


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_printed_as_they_are(
    name: str, run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.directory = tmp_path / name
    announce(run)
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["run"].strip() == str(tmp_path / name)
    assert shlex.split(rows["curves"]) == ["tensorboard", "--logdir", str(tmp_path / name)]
    figures = {"tokens_per_second": 1.0, "mfu": None, "val/loss": 1.0, "best_step": 1}
    figures |= {"val/bpb": 1.0, "seconds": 1.0, "ended": "max_steps"}
    page = tmp_path / name / "report.html"
    summarize(run, figures, page)
    assert f"report    {page}\n" in capsys.readouterr().out


def test_a_run_from_anothers_weights_says_so(
    run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(run)
    assert "weights" not in capsys.readouterr().out
    monkeypatch.setitem(run.prepared.config, "init_from", "runs/[a] b")
    announce(run)
    assert "those of runs/[a] b, to begin with" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_what_works_is_quoted_for_a_shell(name: str, tmp_path: Path) -> None:
    (tmp_path / name / ".hydra").mkdir(parents=True)
    save_config(tmp_path / name, {}, [])
    (tmp_path / name / "checkpoints").mkdir()
    (tmp_path / name / "checkpoints/last.ckpt").touch()
    with pytest.raises(UserError) as error:
        check_free(str(tmp_path / name))
    hint = str(error.value).partition("take another, or ")[2].removesuffix(" goes on with that one")
    assert shlex.split(hint) == [f"resume={tmp_path / name}"]
