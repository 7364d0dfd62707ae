"""What docs/make-it-yours.md tells people to type is composed as it stands."""

import re
import shlex
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from cli.check import check_job
from cli.compose import composed
from cli.folders import use_folder
from cli.overrides import Overrides, jobs_of, split_arguments
from commands import ROOT

PAGE = (ROOT / "docs/make-it-yours.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
COMMANDS = re.findall(r"python (train|evaluate)\.py ([^\n&]*)", SHELL)
# Those that need the page's own folder, or a shell
NOT_COMPOSED = ("--config-dir", "-sc ", "<TAB>")


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_commands_are_composed(command: str, arguments: str) -> None:
    if any(word in arguments for word in NOT_COMPOSED):
        return
    lines, _ = split_arguments(shlex.split(arguments, comments=True))
    *_, last = jobs_of(Overrides(lines))
    composed(command, last)


def test_the_settings_of_the_page_are_a_run(tmp_path: Path) -> None:
    found = re.search(r"`mine/(\S+?)`:\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    path = tmp_path / found[1]
    path.parent.mkdir(parents=True)
    path.write_text(found[2])
    use_folder(str(tmp_path))
    try:
        overrides = Overrides(["experiment=wide"])
        config: Any = OmegaConf.to_container(composed("train", overrides.lines), resolve=True)
        check_job(config, overrides)
    finally:
        use_folder(None)


def test_the_callback_of_the_page_prints_without_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found
    there: dict[str, Any] = {}
    exec(found[1], there)
    module = SimpleNamespace(net=SimpleNamespace(embedding=torch.nn.Embedding(3, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there["Norms"](every=50).on_train_batch_end(
            SimpleNamespace(global_step=100), module, None, None, 0
        )
    assert re.fullmatch(r"100 \d+\.\d+\n", capsys.readouterr().out)
