"""Many small steps, with validations, samples and saves: neither memory nor open files grow.

python tests/reliability/soak.py               # 20,000 steps, some minutes on two cores
python tests/reliability/soak.py --steps 2000
"""

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

import lightning as L
from trials import Home, wait

MARGIN = 16 * 2**20  # bytes that a process may grow by after its first quarter
OPTIONS = (
    "trainer.val_check_interval=500",
    "trainer.log_every_n_steps=100",
    "callbacks.samples.max_new_tokens=8",
    "trainer.accelerator=cpu",
    "evaluation.lengths=[32]",
    "evaluation.methods=[none]",
    "data.path=text.txt",
    "data.val_tokens=512",
    "model.dropout=0.1",
)


class Gauge(L.Callback):
    """Prints resident bytes and open files at a quarter of the steps, and at the last step.

    With `leak` it keeps 64 KiB and a file descriptor of every step, as a negative control.
    """

    def __init__(self, leak: bool = False) -> None:
        self.leak, self.kept = leak, list[object]()

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if self.leak:
            self.kept.append((bytearray(2**16), os.dup(0)))
        if trainer.global_step in (trainer.max_steps // 4, trainer.max_steps - 1):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            files = len(os.listdir("/proc/self/fd"))
            print(f"gauge {pages * resource.getpagesize()} {files}", flush=True)


def soak(home: Home, steps: int, *more: str) -> list[tuple[int, int]]:
    """(resident bytes, open files) at a quarter of the run and at its end."""
    gauge = "+callbacks.gauge._target_=soak.Gauge"
    child = home.train("soak", *OPTIONS, gauge, f"trainer.max_steps={steps}", *more)
    assert wait(child) == 0, home.log("soak")
    found = [line.split()[1:] for line in home.log("soak").splitlines() if line[:5] == "gauge"]
    return [(int(size), int(files)) for size, files in found]


def main() -> None:
    """Print both figures; exit status 1 where one of them has grown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--leak", action="store_true", help="what would be seen")
    options = parser.parse_args()
    steps, more = options.steps, ["+callbacks.gauge.leak=true"] if options.leak else []
    sys.path.insert(0, str(Path(__file__).parent))
    from commands import TINY

    with tempfile.TemporaryDirectory() as folder:
        (size, files), (last_size, last_files) = soak(Home(Path(folder), TINY), steps, *more)
    print(f"step {steps // 4}: {size / 2**20:.1f} MiB resident, {files} open files")
    print(f"step {steps - 1}: {last_size / 2**20:.1f} MiB resident, {last_files} open files")
    raise SystemExit(last_size > size + MARGIN or last_files > files)


if __name__ == "__main__":
    main()
