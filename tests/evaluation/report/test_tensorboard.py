"""An extrapolation in TensorBoard: one run, drawn right at the smoothing that is set."""

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation import Extrapolation, log_tensorboard
from evaluation.report.tensorboard import TIMES, steps
from tensorboards import events, once_a_step, points, smoothed

LENGTHS = [256, 512, 1024, 2048]
BPB = {"none": [2.0, 3.25, 4.5, 8.0], "linear": [2.0, None, 5.25, 6.0], "yarn": [2.5, 2.25, 2, 3]}


@pytest.fixture
def result() -> Extrapolation:
    figures = {name: {"bpb": bpb, "ci95": [None] * 4} for name, bpb in BPB.items()}
    protocol = {"passages": 12, "passages_asked": 12, "target_tokens": 128, "methods": {}}
    return Extrapolation(256, LENGTHS, protocol, figures, {"linear": {"512": "out of memory"}})


def measured(name: str) -> dict[int, float]:
    return {n: bpb for n, bpb in zip(LENGTHS, BPB[name], strict=True) if bpb is not None}


def test_methods_are_curves_of_one_run_and_a_second_call_replaces_them(
    result: Extrapolation, tmp_path: Path
) -> None:
    (tmp_path / "events.out.tfevents.1.of.training").touch()
    log_tensorboard(result, tmp_path)
    log_tensorboard(replace(result, methods={"yarn": result.methods["yarn"]}), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # that of training stays
    found = events(tmp_path)
    assert found.Tags()["scalars"] == ["val_extrapolation/bpb/yarn"]
    (image,) = found.Images("val_figures/extrapolation")
    assert image.width > 1000 and image.encoded_image_string[:4] == b"\x89PNG"
    layout = found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"val_extrapolation/bpb/.+" in layout  # all methods in one chart


@pytest.mark.parametrize("name", BPB)
def test_a_curve_ends_at_each_measured_value_when_it_is_smoothed(
    result: Extrapolation, name: str, tmp_path: Path
) -> None:
    log_tensorboard(result, tmp_path)
    logged = points(tmp_path, f"val_extrapolation/bpb/{name}")
    assert {value for _, value in logged} == set(measured(name).values())  # and no other
    assert all(dict(logged)[n] == bpb for n, bpb in measured(name).items())
    for kept in (logged, once_a_step(logged)):  # by either of TensorBoard's loaders
        drawn = dict(smoothed(kept))
        assert all(abs(drawn[n] - bpb) < 0.01 for n, bpb in measured(name).items())


def test_points_that_are_logged_once_would_be_drawn_elsewhere() -> None:
    """The control: as it was before, and as it is with the same point at the same step."""
    once = list(measured("none").items())
    again = [point for point in once for _ in range(TIMES)]
    for kept in (once, once_a_step(again)):
        drawn = dict(smoothed(kept))
        assert abs(drawn[2048] - 8.0) > 0.5


def test_steps_of_contexts_that_lie_close_do_not_cross() -> None:
    found = [step for step, _ in steps([(4, 1.0), (8, 2.0), (100, 3.0)])]
    assert found == [4, 5, 6, 7, 8, *range(100 - TIMES + 1, 101)]


def test_one_context_makes_no_chart(result: Extrapolation, tmp_path: Path) -> None:
    one = {name: {"bpb": v["bpb"][:1], "ci95": [None]} for name, v in result.methods.items()}
    log_tensorboard(replace(result, lengths=LENGTHS[:1], methods=one, reasons={}), tmp_path)
    tags = events(tmp_path).Tags()
    assert tags["scalars"] == [] and "custom_scalars__config__" not in tags["tensors"]
