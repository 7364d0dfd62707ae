"""What a run keeps, and in which order its checkpoints are gone back to. Needs no torch."""

import re
from pathlib import Path

from common.sealed import damage

BEST, LAST = "best.ckpt", "last.ckpt"
RESULTS = "results.json"  # the last file of a run: one that has it is finished
_STEP = re.compile(r"step-(\d{8,})\.ckpt")


def step_name(step: int) -> str:
    """What the checkpoint of an optimizer step is called once it is no longer the last."""
    return f"step-{step:08d}.ckpt"


def history(directory: Path) -> list[tuple[int, Path]]:
    """Step and file of the checkpoints that were once the last, the newest first."""
    found = ((_STEP.fullmatch(path.name), path) for path in directory.glob("step-*.ckpt"))
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def candidates(directory: Path) -> list[Path]:
    """Those that a run can go on from, in the order in which they are tried: the newest first."""
    others = [*(path for _, path in history(directory)), directory / BEST]
    there = [path for path in others if path.exists()]
    newest = sorted(there, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path for path in [directory / LAST] if path.exists()] + newest


def newest_whole(directory: Path, but: Path | None = None) -> Path | None:
    """The first candidate without damage, other than `but`; None where there is none."""
    others = (path for path in candidates(directory) if path != but)
    return next((path for path in others if damage(path) is None), None)
