"""The rotation and what it costs, against its peers: kernels in a grid, calls, training steps.

result = run_part("accuracy", settings, new_bench(rounds=50, seed=0, progress=PartProgress()))

Reading order:

    registry.py        the parts, in the order in which they run
    parts/             a file for each part: what it measures, its tables, its pictures
    shapes.py          the shapes of q and k that are rotated
    peers.py           who is compared; rotations.py: how each of them rotates
    clocks.py          how the time of a call is taken; timing.py: times that can be compared
    rotation_times.py  what the parts grid and length share
    rotation_error.py  how far from exact a rotation is; exact_rotation.py: what is exact
    bench.py           what every part is run with; part_progress.py: how far it is
    possible.py        what cannot be measured on this machine
    report.py          tables, benchmark.json, pictures; tables.py and plots.py: how they look

What is asked for is checked without torch; the rest is imported when it is asked for.
"""

from typing import TYPE_CHECKING

from benchmarks.registry import PARTS, rules, run_part, unread
from common.lazy import importing

if TYPE_CHECKING:
    from benchmarks.bench import Bench, new_bench
    from benchmarks.part_progress import PartProgress
    from benchmarks.possible import impossible
    from benchmarks.report import write_pictures, write_report

__all__ = [
    "PARTS",
    "Bench",
    "PartProgress",
    "impossible",
    "new_bench",
    "rules",
    "run_part",
    "unread",
    "write_pictures",
    "write_report",
]

__getattr__ = importing(
    __name__,
    {
        "benchmarks.bench": ["Bench", "new_bench"],
        "benchmarks.part_progress": ["PartProgress"],
        "benchmarks.possible": ["impossible"],
        "benchmarks.report": ["write_pictures", "write_report"],
    },
)
