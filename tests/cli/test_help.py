"""`--help` shows every key with its default and with the comment that stands beside it."""

import pytest
import yaml
from omegaconf import OmegaConf

from cli.compose import CONFIGS, composed
from cli.help import help_text

COMMANDS = ("train", "evaluate", "generate", "export", "benchmark", "compare")


def keys(command: str, *lines: str) -> str:
    """The YAML at the end of the help."""
    return help_text(command, lines).partition("Keys (key")[2].partition("\n\n")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_the_config(command: str) -> None:
    text = keys(command)
    config = OmegaConf.to_container(composed(command), resolve=False)
    config.pop("phases", None)  # which other keys set
    assert yaml.safe_load(text) == config


@pytest.mark.parametrize("command", COMMANDS)
def test_every_comment_of_its_file_is_there(command: str) -> None:
    text = (CONFIGS / f"{command}.yaml").read_text().partition("\nhydra:")[0]
    comments = [line.partition("# ")[2] for line in text.splitlines()[1:] if "# " in line]
    assert comments
    shown = help_text(command, [])
    for comment in comments:
        assert f"# {comment}" in shown


def test_comments_are_those_of_the_files_that_were_chosen() -> None:
    lines = keys("train", "scaling=yarn", "data=books", "experiment=books").splitlines()
    assert "  d_model: 384 # width of the residual stream" in lines  # from nano, for mini
    assert "    beta_fast: 32.0 # pairs that turn as often within train_length are kept" in lines
    at = lines.index(
        "data: # stdlib, shakespeare, books, text, huggingface, mix, mixture (with tasks)"
    )
    assert lines[at - 1].startswith("# Public-domain novels")
    assert (
        "# rope; alibi (a bias on the scores); nope (none)"
        in lines[lines.index("position: rope") - 1]
    )
    assert "far_heads" not in "\n".join(lines)


def test_the_examples_and_the_groups_stand_before() -> None:
    text = help_text("train", [])
    assert "python train.py resume=auto" in text
    assert "rope: auto, pytorch, triton # the backend" in text
    assert "data: books, huggingface, mix" in text
