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
    report.py          tables, benchmark.json, pictures; tables.py and plots.py: how they look
"""

from benchmarks.bench import Bench, new_bench
from benchmarks.part_progress import PartProgress
from benchmarks.registry import PARTS, problems, run_part, unread
from benchmarks.report import tables, write_pictures, write_report

__all__ = [
    "PARTS",
    "Bench",
    "PartProgress",
    "new_bench",
    "problems",
    "run_part",
    "tables",
    "unread",
    "write_pictures",
    "write_report",
]
