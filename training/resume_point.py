"""Where a run goes on: what it wrote after its checkpoint is taken back, so that none is twice."""

import json
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter, masked_crc32c

from common.files import replacing, write_text
from training.callbacks.validation import owes_validation
from training.metrics_file import NO_LINE

EVENTS = "events.out.tfevents.*"
_HEADER, _FRAME = 12, 16  # bytes before, and around, an event: its length and two checksums
_STEP_AT = 10  # where a step stands in an event: behind the wall time and its own tag
OF_VALIDATION = ("val/", "samples")  # tags that are written with a validation
# And what a run writes anew: at its start, and once it is trained
ANEW = ("_hparams_/", "val_extrapolation/", "val_figures/", "custom_scalars__config__")


@dataclass(frozen=True)
class ResumePoint:
    """The optimizer step of a checkpoint, and whether it holds the validation of that step."""

    step: int
    validated: bool = True

    @classmethod
    def of(cls, checkpoint: dict[str, Any]) -> "ResumePoint":
        """That of a checkpoint's contents."""
        return cls(checkpoint["global_step"], not owes_validation(checkpoint))

    def keeps(self, step: int, tags: Iterable[str]) -> bool:
        """Whether something logged at `step` was there when the checkpoint was written."""
        if step == self.step and not self.validated:
            return not any(tag.startswith(OF_VALIDATION) for tag in tags)
        return step <= self.step


def cut_metrics(path: Path, point: ResumePoint) -> None:
    """Drop what was logged later from a metrics file, and a last line that was cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
            if point.keeps(values["step"], values):
                kept.append(line + "\n")
        except NO_LINE:
            continue
    write_text(path, "".join(kept))


def cut_events(directory: Path, point: ResumePoint) -> None:
    """Drop what was logged later from TensorBoard's event files in `directory`.

    TensorBoard can be told to hide these points (`purge_step`), but only some of its readers do.
    A line says so where a file is damaged and points of before are lost: no reader goes on behind
    a bad record.
    """
    for path in sorted(set(directory.glob(EVENTS)) - set(directory.glob("*.part"))):
        records = list(RawEventFileLoader(str(path)).Load())  # up to one that was cut off
        kept = [record for record in records if _keeps(Event.FromString(record), point)]
        if (lost := _first_lost(path, records, point)) is not None:
            print(f"{path}: is damaged: its points from step {lost} on are lost")
        cut = directory / "cut"  # under the other name TensorBoard would read both
        with replacing(cut) as file:
            writer = RecordWriter(file)
            for record in kept:
                writer.write(record)
        os.replace(cut, path)


def _first_lost(path: Path, records: list[bytes], point: ResumePoint) -> int | None:
    """The first step whose points may be lost behind `records`, all that could be read."""
    with open(path, "rb") as file:
        file.seek(sum(_FRAME + len(record) for record in records))
        rest = file.read()
    last = max((Event.FromString(record).step for record in records), default=0)
    # A kill cuts off a record: one of a later step is no loss, since it will be written again.
    step = _step_of_part(rest, last + 1) if _is_cut_off(rest) else last
    return step if rest and step <= point.step else None


def _is_cut_off(rest: bytes) -> bool:
    """Whether a file's last bytes are the beginning of one whole record, and not damaged."""
    head = rest[:_HEADER]
    if len(head) < _HEADER:
        return True
    length, checksum = struct.unpack("<QI", head)
    return masked_crc32c(head[:8]) == checksum and len(rest) < _FRAME + length


def _step_of_part(rest: bytes, otherwise: int) -> int:
    """The step of a record that was cut off; `otherwise` where too little of it is there."""
    for end in range(_HEADER + _STEP_AT, min(len(rest), _HEADER + _STEP_AT + 10)):
        with suppress(DecodeError):
            return Event.FromString(rest[_HEADER : end + 1]).step
    return otherwise


def _keeps(event: Event, point: ResumePoint) -> bool:
    if event.WhichOneof("what") != "summary":
        return True  # the version of the file
    tags = [value.tag for value in event.summary.value]
    return point.keeps(event.step, tags) and not any(tag.startswith(ANEW) for tag in tags)
