"""Times: the clock of a CPU, interleaved rounds, medians and ratios."""

from collections.abc import Callable
from itertools import count

from benchmarks.clocks import WallClock
from benchmarks.timing import Timing, interleaved, measure, median_ratio


def test_wall_clock_measures_the_call_alone() -> None:
    ticks = iter([0.0, 0.5, 10.0, 10.25])
    sample, mode = WallClock(now=lambda: next(ticks)).prepare(lambda: None)
    assert [sample(), sample()] == [0.5e6, 0.25e6]
    assert mode == "wall clock"


def test_rounds_are_interleaved_and_shuffled() -> None:
    calls: list[str] = []
    numbers = count()

    def sampler(name: str):
        return lambda: calls.append(name) or next(numbers)

    samples = interleaved({name: sampler(name) for name in "abc"}, rounds=20, seed=0)
    assert all(sorted(calls[i : i + 3]) == ["a", "b", "c"] for i in range(0, 60, 3))
    assert len({tuple(calls[i : i + 3]) for i in range(0, 60, 3)}) > 3
    assert all(i // 3 == round_ for s in samples.values() for round_, i in enumerate(s))


def test_medians_and_paired_ratios() -> None:
    summary = Timing([float(i) for i in range(1, 12)], "wall clock").summary()
    assert summary == {"median_us": 6.0, "p10_us": 2.0, "p90_us": 10.0, "mode": "wall clock"}
    # The machine is slow in the middle round, for both: their ratio stays.
    assert median_ratio([2.0, 200.0, 2.0], [1.0, 100.0, 1.0]) == 2.0


def test_one_that_fails_leaves_the_others() -> None:
    def fails() -> None:
        raise RuntimeError("no memory\nand more")

    makers = {"good": lambda: lambda: None, "bad": lambda: fails, "worse": fails}
    timings, reasons = measure(makers, WallClock(), 3, 0, on_step=lambda name: None)
    assert list(timings) == ["good"] and len(timings["good"].times) == 3
    assert reasons == {name: "RuntimeError: no memory" for name in ("bad", "worse")}


def test_places_take_turns() -> None:
    made = count()

    def make() -> Callable[[], None]:
        place = next(made)
        return lambda: calls.append(place)

    calls: list[int] = []
    measure({"one": make}, WallClock(), 5, 0, on_step=lambda name: None, places=3)
    assert calls[-5:] == [0, 1, 2, 0, 1]
