"""What the README shows runs as it stands."""

import re

import pytest

from commands import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES)
def test_example_runs(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_there_are_examples_and_two_commands_to_install() -> None:
    assert len(EXAMPLES) == 3
    commands = re.findall(r"^pip install.*$", README, re.MULTILINE)
    assert [command.split("&&")[1].split()[0] for command in commands] == ["python", "python"]


def test_every_file_it_names_is_there() -> None:
    for name in re.findall(r"docs/results/[\w./-]+\.\w+", README):
        assert (ROOT / name).is_file(), name
