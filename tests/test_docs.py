"""What docs/make-it-yours.md tells people to type is composed as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from cli.compose import composed
from cli.overrides import split_arguments
from commands import ROOT

PAGE = (ROOT / "docs/make-it-yours.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
COMMANDS = re.findall(r"python (train|evaluate)\.py ([^\n&]*)", SHELL)


def plain_lines(arguments: str) -> list[str]:
    """The overrides of a command line, of a sweep those of its first job."""
    lines, _ = split_arguments(shlex.split(arguments, comments=True))
    return [re.sub(r"(?<=[^\[]),(?![^\[]*\]).*", "", line) for line in lines]
