"""`--config-dir`: options of the user's own beside the project's."""

import sys
from pathlib import Path

import pytest

from cli.compose import composed
from cli.errors import UserError
from cli.folders import group_options, use_folder
from cli.help import help_text
from cli.overrides import Overrides
from cli.resume import typed_keys
from commands import TINY, command_here, refused, write_text

EXPERIMENT = """# @package _global_
# Mine.
defaults:
  - override /model: wide

optimizer:
  lr: 0.003 # higher than usual
callbacks:
  hello:
    _target_: own_callbacks.Hello
"""
CALLBACK = """import lightning
class Hello(lightning.Callback):
    def on_train_start(self, trainer, module):
        print("hello")
"""


@pytest.fixture
def my(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the folder `my, own` of options."""
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("experiment/quick.yaml", EXPERIMENT),
        ("model/wide.yaml", "# Wide.\ndefaults: [nano]\nd_model: 64\n"),
    ):
        path = tmp_path / "my, own" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    yield tmp_path
    use_folder(None)


def test_its_options_are_known_everywhere(my: Path) -> None:
    use_folder("my, own")
    lines = ["experiment=quick", "seed=1"]
    config = composed("train", lines)
    assert (config.model.d_model, config.optimizer.lr, config.model.n_layers) == (64, 0.003, 2)
    assert "wide" in group_options("model") and "nano" in group_options("model")
    text = help_text("train", lines)
    assert "model: gpt2, mini, nano, wide" in text and "lr: 0.003 # higher than usual" in text
    typed = typed_keys(Overrides(lines), {"model": {"d_model": 64}, "seed": 1})
    assert set(typed) == {"model.d_model", "seed"}
    use_folder(None)
    assert "wide" not in group_options("model")


def test_a_run_with_them(my: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (my / "own_callbacks.py").write_text(CALLBACK)
    write_text(my / "text.txt")
    tiny = [option for option in TINY if "d_model" not in option]
    done = command_here(
        *("train.py", "--config-dir", "my, own", "experiment=quick", *tiny, "--quiet"),
        *("data.path=text.txt", "trainer.max_steps=1", "evaluation.methods=[none]"),
        *("callbacks.progress=null", "callbacks.samples=null", "logger=none", "rope=pytorch"),
        cwd=my,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("hello\nBits per byte") and "curves" not in done.stdout
    (run,) = my.glob("runs/text-quick-wide-pytorch/*")
    assert "d_model: 64" in (run / ".hydra/config.yaml").read_text()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model/nano.yaml", "d_model: 64", "the project has a model=nano; take another name"),
        ("model/odd.yaml", "d_model: [64", "model/odd.yaml: is no YAML (line 1: expected"),
        ("model/odd.yaml", "- 64", "model/odd.yaml: holds no key: value lines"),
        ("model/odd.yaml", "d_model: 64\nd_model: 96", "duplicate key d_model"),
        ("model/odd.yaml", "defaults: nano", "defaults: must be a list of options"),
        ("model/odd.yaml", b"d_model: \xff", "model/odd.yaml: is not UTF-8"),
        ("experiment/odd.yaml", "seed: 1", "must begin with the line # @package _global_"),
        ("train.yaml", "seed: 1", "holds no option of a group"),
        ("model", "seed: 1", "holds no option of a group"),
    ],
)
def test_a_folder_that_cannot_be_used(
    file: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "f" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="--config-dir=") as error:
        use_folder(str(tmp_path / "f"))
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config-dir", "nowhere"], "--config-dir=nowhere: no such directory; give the one"),
        (["--config-dir=text.txt"], "--config-dir=text.txt: is a file"),
        (["--config-dir", "my, own", "model=wid"], "model=wid: no such option; did you mean wide?"),
        (
            ["--config-dir", "my, own", "model=typo"],
            "typo.yaml: model.d_modle: no such key; did you",
        ),
        (["--config-dir", "my, own", "model=circle"], "circle.yaml: builds on itself; take model="),
        (["model=wide"], "model=wide: no such option"),
    ],
)
def test_what_is_wrong_is_told_in_our_form(
    arguments: list[str], said: str, my: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    (my / "text.txt").touch()
    (my / "my, own/model/typo.yaml").write_text("d_modle: 64\n")
    (my / "my, own/model/circle.yaml").write_text("defaults: [circle]\n")
    assert said in refused("train.py", *arguments, monkeypatch=monkeypatch, capfd=capfd)


@pytest.mark.slow
def test_all_commands_take_one(my: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    for script, wrong in (
        ("evaluate.py", "seed=1"),
        ("generate.py", "sead=1"),
        ("benchmark.py", "x=1"),
    ):
        arguments = ("--config-dir", "my, own", "-q", wrong)
        message = refused(script, *arguments, monkeypatch=monkeypatch, capfd=capfd)
        assert message.startswith(f"{wrong}: no such key")
