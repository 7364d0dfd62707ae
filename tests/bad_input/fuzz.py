"""Fuzzing of all four commands: random overrides, and damaged files. About ten minutes.

python tests/bad_input/fuzz.py                          1,000 overrides, 500 files
python tests/bad_input/fuzz.py --overrides 100 --files 0 --seed 7
python tests/bad_input/fuzz.py --only overrides:153     one trial, with all that it printed
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers")]

from fuzz import Trial, Workshop  # noqa: E402 - found by then
from fuzz_files import file_trial  # noqa: E402
from fuzz_overrides import check_given, override_trial  # noqa: E402

KINDS: dict[str, Callable[[Workshop, int, int], Trial]] = {
    "overrides": override_trial,
    "files": file_trial,
}


def main() -> int:
    """Run what was asked for; 1 where a trial had a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--overrides", type=int, default=1000)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="KIND:NUMBER")
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="ropewalk-fuzz-") as folder:
        shop = Workshop(Path(folder))
        check_given(shop)
        if asked.only:
            kind, number = asked.only.split(":")
            trial = KINDS[kind](shop, asked.seed, int(number))
            print(f"{trial.words}\n{trial.done.out}{trial.done.err}\nfault: {trial.fault}")
            return int(trial.fault is not None)
        counts = {"overrides": asked.overrides, "files": asked.files}
        return int(any([_run(kind, shop, asked.seed, n) for kind, n in counts.items() if n]))


def _run(kind: str, shop: Workshop, seed: int, count: int) -> int:
    """All trials of a kind; how many had a fault."""
    start, ends, faults = time.monotonic(), Counter[str](), 0
    for number in range(count):
        trial = KINDS[kind](shop, seed, number)
        ends[_end(trial.done.status)] += 1
        if trial.fault:
            faults += 1
            print(f"FAULT {kind}:{number} {trial.words}\n      {trial.fault}", flush=True)
    how = ", ".join(f"{n} {end}" for end, n in ends.most_common())
    print(f"{kind}: {count} trials in {time.monotonic() - start:.0f} s, {faults} faults; {how}")
    return faults


def _end(status: int | None) -> str:
    return {0: "accepted", 2: "refused", 1: "failed"}.get(
        -1 if status is None else status, "killed"
    )


class _Plain(argparse.RawDescriptionHelpFormatter):
    pass


if __name__ == "__main__":
    sys.exit(main())
