"""Kill a run again and again, and see whether it ends as the one that was left alone.

    python tests/reliability/kills.py            # 100 kills, about 10 minutes on two cores
    python tests/reliability/kills.py --kills 10 --seed 1

Most kills come at a random moment of the run, from composing its config to writing its results;
before them one at each of `places`. After each run the weights, the optimizer, callbacks, metrics,
samples, TensorBoard's points, results and extrapolation are compared, bit for bit.
"""

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from trials import Home, Sabotage, differences, kill_at, left, wait, wait_until

IN_THE_CACHE = "while the cache is written"


def places() -> dict[str, Sabotage]:
    """Where a run is killed on purpose, by name."""
    from lightning.pytorch import Trainer
    from torch.optim import AdamW

    import common.files
    import data.cache
    import training.module
    import training.run
    from evaluation.cells import Cells

    module = training.module.LanguageModule
    return {
        "before a step of the optimizer": kill_at(AdamW, "step", 6),
        "after a step of the optimizer": kill_at(AdamW, "step", 3, before=False),
        "amid accumulation": kill_at(module, "training_step", 12, before=False),
        "in a validation": kill_at(module, "validation_step", 5),
        "before the first checkpoint": kill_at(Trainer, "save_checkpoint", 1),
        "between best and last": kill_at(Trainer, "save_checkpoint", 5, before=False),
        "before a rename": kill_at(common.files.os, "replace", 9),
        "half-way in a file": _half_written(3),
        IN_THE_CACHE: kill_at(data.cache, "write_cached", 1),
        "in the evaluation": kill_at(Cells, "add", 3),
        "before the results": kill_at(training.run.Run, "write_results", 1),
        "after the results": kill_at(training.run.Run, "write_results", 1, before=False),
    }


def _half_written(call: int) -> Sabotage:
    """Die when half of the `call`-th checkpoint is on the disk."""

    def install() -> None:
        import io

        import torch

        original, calls = torch.save, [0]

        def half(content: object, file: io.BufferedWriter) -> None:
            calls[0] += 1
            if calls[0] < call:
                return original(content, file)
            whole = io.BytesIO()
            original(content, whole)
            file.write(whole.getvalue()[: whole.tell() // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        torch.save = half

    return install


class Trial:
    """Kills runs in a home, and compares each with one that was left alone."""

    def __init__(self, home: Home, seed: int = 0) -> None:
        self.home, self.sabotages, self.chance = home, places(), random.Random(seed)
        self.start, self.kills, self.runs = time.monotonic(), 0, 0
        self.differ: list[str] = []
        home.finish("whole")
        self.whole, self.seconds = left(home.path / "whole"), time.monotonic() - self.start

    def at_places(self, *story: str) -> None:
        """One run, killed at each of these places in turn."""
        name = self._begin()
        for place in story:
            if place == IN_THE_CACHE:
                shutil.rmtree(self.home.path / "cache")
            status = wait(self.home.train(name, sabotage=self.sabotages[place]))
            assert status == -signal.SIGKILL, f"{place} was not reached\n{self.home.log(name)}"
            self.kills += 1
        self._compare(name, story)

    def by_chance(self, most: int) -> None:
        """One run, killed at random moments, `most` times or until it has ended."""
        name, story = self._begin(), []
        while len(story) < most and not (self.home.path / name / "results.json").exists():
            after = self.chance.uniform(0, self.seconds)
            child = self.home.train(name)
            if (status := wait_until(child, after)) is not None:
                assert status == 0, self.home.log(name)
                break
            os.kill(child, signal.SIGKILL)
            wait(child)
            story.append(f"after {after:.2f} s")
            self.kills += 1
        self._compare(name, story)

    def _begin(self) -> str:
        self.runs += 1
        return f"run{self.runs}"

    def _compare(self, name: str, story: Sequence[str]) -> None:
        if not (self.home.path / name / "results.json").exists():
            self.home.finish(name)
        if different := differences(self.whole, left(self.home.path / name)):
            self.differ.append(f"{name}, killed {', '.join(story)}: {', '.join(different)}")

    def __str__(self) -> str:
        lines = [
            f"{self.kills} kills in {self.runs} runs, {time.monotonic() - self.start:.0f} s: "
            f"{len(self.differ)} runs differ from the one that was left alone"
        ]
        return "\n  ".join(lines + self.differ)


def main() -> None:
    """Print how many runs ended alike; exit status 1 if one did not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Home(Path(folder)), options.seed)
        for place in list(trial.sabotages)[: options.kills]:
            trial.at_places(place)
        while trial.kills < options.kills:
            trial.by_chance(options.kills - trial.kills)
    print(trial)
    raise SystemExit(bool(trial.differ))


if __name__ == "__main__":
    main()
