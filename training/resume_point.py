"""Where a run goes on: what it wrote after its checkpoint is taken back, so that none is twice."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from common.files import replacing, write_text
from training.callbacks.validation import owes_validation

EVENTS = "events.out.tfevents.*"
OF_VALIDATION = ("val/", "samples")  # tags that are written with a validation
OF_THE_END = ("hp/", "_hparams_/")  # and with the results


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
        except (ValueError, KeyError, TypeError):
            continue
    write_text(path, "".join(kept))


def cut_events(directory: Path, point: ResumePoint) -> None:
    """Drop what was logged later from TensorBoard's event files in `directory`.

    TensorBoard can be told to hide these points (`purge_step`), but only some of its readers do.
    """
    for path in sorted(set(directory.glob(EVENTS)) - set(directory.glob("*.part"))):
        records = list(RawEventFileLoader(str(path)).Load())  # up to one that was cut off
        kept = [record for record in records if _keeps(Event.FromString(record), point)]
        cut = directory / "cut"  # under the other name TensorBoard would read both
        with replacing(cut) as file:
            writer = RecordWriter(file)
            for record in kept:
                writer.write(record)
        os.replace(cut, path)


def _keeps(event: Event, point: ResumePoint) -> bool:
    if event.WhichOneof("what") != "summary":
        return True  # the version of the file
    tags = [value.tag for value in event.summary.value]
    return point.keeps(event.step, tags) and not any(tag.startswith(OF_THE_END) for tag in tags)
