"""Wrong values are answered before torch is imported, and so at once."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from commands import ROOT, command

SLOW = pytest.mark.slow

# The command, and what is said.
MISTAKES = [
    (["train.py", "model.n_heads=3", "optimizer.lr=-1"], "optimizer.lr=-1", "model.n_heads=3"),
    (["train.py", "model.d_modle=64"], "did you mean model.d_model?"),
    (["train.py", "rope=trition"], "did you mean triton?"),
    (["train.py", "scaling=yarn"], "scaling.train_length=None: yarn needs"),
    (["train.py", "data.corpus=book", "data.passkey=2"], "data.corpus=book", "data.passkey=2"),
    (["train.py", "crossbatch_from=-1", "drop_positions_at=0"], "of at least 0", "of at least 1"),
    (["train.py", "model.far_heads=2"], "mixed layers were removed"),
    (["train.py", "model.pattern=[full,full,windwo]"], "try model.pattern=[full,full,window]"),
    (["train.py", "evaluation.methods=[yarm,rerope@0]"], "did you mean yarn?", "window=0"),
    (["train.py", "position=alibi", "rope.theta=5"], "no effect with position=alibi"),
    (["train.py", "run_dir=file"], "file is a file"),
    (["train.py", "resume=nowhere"], "holds no run to go on with"),
    (["train.py", "init_from=nowhere"], "init_from=nowhere: no such file or directory"),
    (["train.py", "trainer.max_time=xyz", "trainer.deterministic={}"], "DD:HH", "true, false or"),
    (
        ["train.py", "+trainer.limit_val_batches=0"],
        "limit_val_batches=0: cannot",
        "data.val_tokens",
    ),
    (["train.py", "callbacks.samples=5", "logger.tensorboard.name=5"], "samples=5", "name=5: must"),
    (["train.py", "--loud"], "--loud: no such flag; there is --help"),
    (["train.py", "model.n_heads"], "try model.n_heads=4"),
    (["train.py", "file"], "try data=text data.path=file"),
    (["evaluate.py", "runs/x"], "try checkpoint=runs/x"),
    (
        ["evaluate.py", "checkpoint=[no,where]"],
        "checkpoint=no: no such",
        "checkpoint=where: no such",
    ),
    (["generate.py", "checkpoint=nowhere"], "checkpoint=nowhere: no such file or directory"),
    (["generate.py", "To be"], 'try prompt="To be"'),
    (["evaluate.py", "lengts=[5]"], "did you mean lengths?"),
    (["evaluate.py", "trials=0", "methods=[nome]"], "checkpoint=null", "trials=0", "mean none?"),
    (
        ["evaluate.py", "checkpoint=file", "lengths=[8]", "target_tokens=9"],
        "target_tokens=9: must",
    ),
    (["generate.py", "temperature=-1"], "checkpoint=null", "temperature=-1"),
    (["benchmark.py", "rounds=0", "peers=[copi]"], "rounds=0", "try peers=[copy]"),
    (["compare.py", "nope", "figures=jpg"], "figures=jpg: must be one of png, svg, pdf"),
    (["compare.py", "nope"], "nope: no such directory"),
    (["benchmark.py", "parts=[accuracy]", "rounds=5"], "only parts="),
    (["export.py", "checkpoint=nowhere", "dtype=f16"], "checkpoint=nowhere", "output_dir=null"),
    (["export.py", "checkpoint=file", "output_dir=file/x"], "file is a file"),
]
# Runs commands, one after the other, and tells of each: status, stderr, whether torch is there.
ASK = """
import contextlib, io, json, runpy, sys
for line in json.loads(sys.argv[1]):
    sys.argv, error = line, io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            runpy.run_path(line[0], run_name="__main__")
        except SystemExit as stop:
            print(json.dumps([stop.code, error.getvalue(), "torch" in sys.modules]))
"""


def ask(lines: list[list[str]], cwd: Path) -> list[tuple[int, str, bool]]:
    """Exit status, stderr and whether torch was imported, of commands in one process."""
    typed = json.dumps([[str(ROOT / script), *rest] for script, *rest in lines])
    done = subprocess.run(
        [sys.executable, "-c", ASK, typed],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "mistakes", [MISTAKES[::3], *(pytest.param(MISTAKES[n::3], marks=SLOW) for n in (1, 2))]
)
def test_wrong_values_need_no_torch(mistakes: list[tuple[list[str], ...]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answers = ask([arguments for arguments, *_ in mistakes], tmp_path)
    for (arguments, *expected), (status, message, torch) in zip(mistakes, answers, strict=True):
        assert status == 2, message
        assert not torch, arguments
        for said in expected:
            assert said in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@SLOW
def test_the_question_is_right(tmp_path: Path) -> None:
    """Negative control: what only torch can tell is told with torch."""
    ((status, message, torch),) = ask([["generate.py", f"checkpoint={tmp_path}"]], tmp_path)
    assert status == 2 and "no checkpoints/best.ckpt" in message and torch


def test_an_answer_takes_a_second_or_two(tmp_path: Path) -> None:
    """At most 2 s on an idle machine. Of the CPU, which a busy one changes less; torch takes 5."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command("train.py", "model.n_heads=3", "optimizer.lr=-1", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
