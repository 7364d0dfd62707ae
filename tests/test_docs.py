"""What docs/make-it-yours.md tells people to type is composed as it stands."""

import re
import shlex

import pytest

from cli.compose import composed
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
