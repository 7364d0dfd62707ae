"""`--quiet` keeps progress and announcements back, and nothing else."""

import pytest

from common.terminal import is_quiet, say, set_quiet
from data.progress import WorkProgress


@pytest.fixture(autouse=True)
def loud() -> None:
    yield
    set_quiet(False)


def test_what_is_said_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    say("one")
    set_quiet()
    say("two")
    assert is_quiet() and capsys.readouterr().out == "one\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_of_long_work(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    set_quiet(quiet)
    with WorkProgress(delay=0) as on_progress:
        for done in (1, 2):
            on_progress("reading", done, 2)
    assert ("reading" in capsys.readouterr().err) != quiet
