"""The rotation and what it costs, against its peers: kernels in a grid, calls, training steps.

result = run_part("accuracy", settings, new_bench(rounds=50, seed=0, progress=PartProgress()))

What is asked for is checked without torch; the rest is imported when it is asked for.
"""

from typing import TYPE_CHECKING

from benchmarks.registry import PARTS, rules, run_part, unread
from common.lazy import importing

if TYPE_CHECKING:
    from benchmarks.bench import Bench, new_bench
    from benchmarks.progress import PartProgress
    from benchmarks.report import write_pictures, write_report

__all__ = [
    "PARTS",
    "Bench",
    "PartProgress",
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
        "benchmarks.progress": ["PartProgress"],
        "benchmarks.report": ["write_pictures", "write_report"],
    },
)
