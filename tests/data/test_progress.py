"""Progress before a run: late, on stderr, a bar on a terminal and lines without one."""

import io
import sys

import pytest

from data.progress import WorkProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("delay, shown", [(0.0, True), (60.0, False)])
@pytest.mark.parametrize("stderr", [Terminal, io.StringIO])
def test_it_is_shown_when_it_takes_long(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stderr: type[io.StringIO],
    delay: float,
    shown: bool,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stderr())
    with WorkProgress(delay) as progress:
        progress("Reading [a].txt", 1, 2)
        progress("Reading [a].txt", 2, 2)
    written = sys.stderr.getvalue()
    assert bool(written) == shown
    assert ("Reading [a].txt" in written) == shown
    if shown and stderr is io.StringIO:
        assert written == "Reading [a].txt: 50 %, left 0:00\n"  # and ten seconds later the next
    assert capsys.readouterr().out == ""


def test_lines_tell_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with WorkProgress() as progress:
        for second in range(0, 101, 4):
            now[0] = second
            progress("Reading", second, 400)
    assert capsys.readouterr().err.splitlines() == [
        f"Reading: {percent} %, left {left}"
        for percent, left in (
            *((2, "6:32"), (5, "6:20"), (8, "6:08"), (11, "5:56")),
            *((14, "5:44"), (17, "5:32"), (20, "5:20"), (23, "5:08")),
        )
    ]
