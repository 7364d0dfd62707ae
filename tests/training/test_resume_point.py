"""What a run wrote after its checkpoint is taken back."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch.utils.tensorboard import SummaryWriter

from training.metrics_file import JsonLines, latest_metrics
from training.resume_point import ResumePoint, cut_events, cut_metrics

LINES = (
    '{"step": 1, "train/loss": 3.0}',
    '{"step": 2, "train/loss": 2.0}',
    '{"step": 2, "val/loss": 2.5}',
    '{"step": 3, "train/loss": 1.0}',
)


@pytest.mark.parametrize(("validated", "kept"), [(True, 3), (False, 2)])
def test_metrics_are_cut_back_to_a_step(tmp_path: Path, validated: bool, kept: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(LINES) + '\n{"step": 2, "tra')  # the last one was cut off
    cut_metrics(path, ResumePoint(2, validated))
    assert path.read_text().splitlines() == list(LINES[:kept])


def test_what_is_no_line_of_ours_does_not_survive(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'[1]\n3\n{"step": "one"}\n{}\n\xff\xfe\n' + b"[" * 200_000 + b'\n{"step": 1}\n'
    )
    assert latest_metrics(path, 1) == {}
    cut_metrics(path, ResumePoint(1))
    assert path.read_text() == '{"step": 1}\n'


@pytest.mark.parametrize("cut_off", [0, 7])
@pytest.mark.parametrize(("validated", "values"), [(True, [3, 2]), (False, [2])])
def test_events_are_cut_back_to_a_step(
    tmp_path: Path, validated: bool, values: list[int], cut_off: int
) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for line in LINES:
            step, *scalars = json.loads(line).items()
            for tag, value in scalars:
                writer.add_scalar(tag, value, step[1])
        writer.add_scalar("val_extrapolation/bpb/none", 1.0, 1)  # which comes anew
    (path,) = tmp_path.glob("events*")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut_off])
    cut_events(tmp_path, ResumePoint(2, validated))
    events = [v for e in EventFileLoader(str(path)).Load() for v in e.summary.value]
    tags = [event.tag for event in events]
    assert tags == ["train/loss"] * 2 + ["val/loss"] * validated
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """An event file with a point at each step up to 300."""
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(1, 301):
            writer.add_scalar("train/loss", 1.0, step)
    (path,) = tmp_path.glob("events*")
    return path


def flipped(content: bytes) -> bytes:
    return content[:4000] + bytes([content[4000] ^ 4]) + content[4001:]


@pytest.mark.parametrize("cut", [0, *range(2, 60, 6)])
@pytest.mark.parametrize(("step", "lost"), [(10, False), (290, True)])
def test_lost_points_are_told(
    events: Path, cut: int, step: int, lost: bool, capsys: pytest.CaptureFixture
) -> None:
    whole = events.read_bytes()
    events.write_bytes(whole[: len(whole) // 3 + cut] if cut else flipped(whole))
    there = sum(1 for e in EventFileLoader(str(events)).Load() if e.summary.value)
    cut_events(events.parent, ResumePoint(step))
    said = capsys.readouterr().out
    assert there < 110 and said.count("\n") == lost
    first = there if cut == 0 else there + 1  # a bad record may be of the step before
    assert not lost or said == f"{events}: is damaged: its points from step {first} on are lost\n"


@pytest.mark.parametrize("cut", [0, 1, 20, 40, 45])
def test_a_record_cut_off_by_a_kill_is_nothing_to_tell(events: Path, cut: int, capsys) -> None:
    whole = events.read_bytes()
    events.write_bytes(whole[: len(whole) - cut])
    cut_events(events.parent, ResumePoint(299))
    assert capsys.readouterr().out == ""
    assert sum(1 for e in EventFileLoader(str(events)).Load() if e.summary.value) == 299


def test_strict_readers_take_every_line(tmp_path: Path) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(name)

    logger = JsonLines(tmp_path / "metrics.jsonl")
    logger.log_metrics({"a": float("nan"), "b": float("inf"), "c": 1.5}, step=1)
    (line,) = logger.path.read_text().splitlines()
    assert json.loads(line, parse_constant=no_constant) == {
        "step": 1,
        "a": None,
        "b": None,
        "c": 1.5,
    }
