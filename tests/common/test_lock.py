"""A lock on a directory: one process at a time, free when that process is gone, however it went."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import ROOT
from common import lock

HOLDER = """
import os, sys, time
from pathlib import Path
from common.lock import Held, hold
try:
    hold(Path(sys.argv[1]))
except Held as held:
    print("refused", held.pid, flush=True)
    sys.exit(3)
print("held", os.getpid(), flush=True)
if sys.argv[2] == "fork":
    child = os.fork()
    if child:
        print(child, flush=True)
time.sleep(60)
"""


def start(directory: Path, how: str = "alone", script: str = HOLDER) -> subprocess.Popen:
    """A process that holds `directory` for a minute; how="fork": with a child of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(directory), how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_lock_is_one_process_s_and_says_whose(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path)
    held = lock.hold(tmp_path)
    try:
        assert lock.is_held(tmp_path)
        other = start(tmp_path)
        assert other.stdout.read() == f"refused {os.getpid()}\n" and other.wait() == 3
        with pytest.raises(lock.Held, match=f"process {os.getpid()} on host"):
            lock.hold(tmp_path)  # nor twice in one process
    finally:
        held.release()
    held.release()  # once is enough
    assert not lock.is_held(tmp_path)
    lock.hold(tmp_path)
    lock.release_all()
    assert not lock.is_held(tmp_path)


def test_of_processes_that_race_one_wins(tmp_path: Path) -> None:
    racers = [start(tmp_path) for _ in range(3)]
    try:
        said = [racer.stdout.readline().split()[0] for racer in racers]
        assert sorted(said) == ["held", "refused", "refused"]
    finally:
        for racer in racers:
            end(racer)


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_kill_9_frees_it_at_once(tmp_path: Path, how: str) -> None:
    """Also while a child lives that the holder forked, as the processes that make batches are."""
    holder = start(tmp_path, how)
    assert holder.stdout.readline().startswith("held")
    child = int(holder.stdout.readline()) if how == "fork" else None
    try:
        assert lock.is_held(tmp_path)
        end(holder)
        lock.hold(tmp_path).release()
        assert child is None or os.kill(child, 0) is None  # it is alive
    finally:
        if child is not None:
            os.kill(child, signal.SIGKILL)


def test_a_child_that_kept_it_would_be_seen(tmp_path: Path) -> None:
    """Negative control: without the mend after a fork, the child holds on to the lock."""
    script = HOLDER.replace("child = os.fork()", "import common.lock; common.lock._held.clear()")
    script = script.replace("    if child:", "    child = os.fork()\n    if child:")
    holder = start(tmp_path, "fork", script.replace("hold(Path(", "kept = hold(Path("))
    assert holder.stdout.readline().startswith("held")
    child = int(holder.stdout.readline())
    try:
        end(holder)
        assert lock.is_held(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while lock.is_held(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not lock.is_held(tmp_path)


def test_a_lock_is_never_made_through_a_link(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        lock.hold(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_without_flock_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    one, other = lock.hold(tmp_path), lock.hold(tmp_path)
    assert not lock.is_held(tmp_path)
    one.release()
    other.release()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"no number", b"\x1b[2J 5", b"9" * 4000])
def test_a_holder_that_the_file_does_not_name(tmp_path: Path, content: bytes) -> None:
    held = lock.hold(tmp_path)
    (tmp_path / ".lock").write_bytes(content)
    with pytest.raises(lock.Held, match="another process"):
        lock.hold(tmp_path)
    held.release()
