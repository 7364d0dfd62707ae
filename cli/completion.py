"""Tab completion in a shell: Hydra's own, `eval "$(python train.py -sc install=bash)"`.

The shell then asks `python train.py -sc query=bash` for what may follow, with the line so far in
COMP_LINE. Taken out are: of that line, the flags that Hydra does not know; of the answer, what
nobody may type.
"""

import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress

import hydra

from cli.arguments import QUIET, known_flags
from cli.errors import UserError
from cli.folders import CONFIGS, use_folder, users_folder

FLAGS = ("-sc", "--shell-completion")
_WHAT = re.compile(r"(install|uninstall|query)=(bash|zsh|fish)")
# Hydra's own keys, what other keys set, and files that are for sharing only
_HIDDEN = re.compile(r"\+?(hydra[./=]?|phases[./=]|[\w/]+=_)")


def complete(script: str, arguments: Sequence[str], config_name: str) -> None:
    """Print what a shell asks for. UserError where it is not one of Hydra's three commands."""
    asked = [argument for argument in arguments if argument not in FLAGS]
    if len(asked) != 1 or not _WHAT.fullmatch(asked[0]):
        shown = " ".join(asked) or "…"
        raise UserError(f"-sc {shown}: must be install=bash, install=zsh or install=fish")
    if not asked[0].startswith("query="):
        _hydra([script, "-sc", *asked], config_name)
        return
    line = _for_hydra(os.environ.get("COMP_LINE", ""))
    folder = users_folder()
    flags = ["--config-dir", str(folder)] if folder else []
    answer = io.StringIO()
    os.environ["COMP_LINE"] = line
    with (
        redirect_stdout(answer),
        redirect_stderr(io.StringIO()),
        suppress(Exception, SystemExit),  # half a word need not make sense: then nothing follows
    ):
        _hydra([script, "-sc", *asked, *flags], config_name)
    words = [word for word in answer.getvalue().split() if not _HIDDEN.match(word)]
    print("\n".join(words) if asked[0] == "query=fish" else " ".join(words))


def _for_hydra(line: str) -> str:
    """The line without our own flags; the folder in it is looked into from now on."""
    words = [word for word in line.split(" ") if word not in QUIET]
    with suppress(UserError):
        use_folder(known_flags(words)[2])
    return " ".join(words)


def _hydra(argv: Sequence[str], config_name: str) -> None:
    sys.argv = list(argv)
    hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(print)()
