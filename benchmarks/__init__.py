"""The rotation and what it costs, against its peers: kernels in a grid, calls, training steps.

result = run_part("accuracy", settings, new_bench(rounds=50, seed=0, progress=PartProgress()))
"""

from benchmarks.bench import Bench, new_bench
from benchmarks.progress import PartProgress
from benchmarks.registry import PARTS, problems, run_part, unread
from benchmarks.report import write_pictures, write_report
from benchmarks.tables import tables

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
