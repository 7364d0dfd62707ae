"""The engine: which cells there are, going on, several checkpoints, the crop."""

import json
import math
import signal
from dataclasses import asdict, replace
from importlib import import_module

import numpy as np
import pytest
import torch

from common.signals import Stopped
from data import ByteTokenizer
from evaluation import (
    MEASURES,
    Cells,
    Subject,
    check_settings,
    measure_checkpoints,
    parse_method,
    write_report,
)
from evaluation.measures.loss import same_target_nll
from evaluation.measures.measure import Measure
from evaluation.measures.registry import check_measures
from evaluation.passages import choose_passages
from evaluation.statistics import wilson_ci95
from methods.apply import applied
from tiny_extrapolation import BYTES, DOCUMENT, TRAIN_LENGTH, measure, tiny

CALLS = []  # (measure, options) of the fakes


def fake(monkeypatch, module, name, answer):
    """A measure function of another file, which records what it is asked."""

    def measured(model, *material, on_forward=None, **options):
        CALLS.append((name, model, material, options))
        return answer(options)

    monkeypatch.setattr(import_module(f"evaluation.measures.{module}"), name, measured)


@pytest.fixture
def fakes(monkeypatch):
    CALLS.clear()
    passkey = {"accuracy": 0.5, "ci95": wilson_ci95(5, 10), "digit_accuracy": 0.75}
    passkey |= {"depths": [0.0, 1.0], "correct": [4, 1], "trials": [5, 5]}
    copying = {"accuracy": 0.5, "control": 0.25, "gain": 0.25, "ci95": [0.125, 0.375], "trials": 4}
    positions = {"from": [1, 2], "to": [1, 3], "nll": [3.0, 2.0], "ci95": [[2.0, 4.0], None]}
    layer = {"mean_distance": 9.0, "beyond_training": 0.5, "first_tokens": 0.1, "entropy": 0.9}
    fake(monkeypatch, "passkey_retrieval", "measure_passkey", lambda options: passkey)
    fake(monkeypatch, "copying", "measure_copy", lambda options: copying)
    fake(monkeypatch, "copying", "measure_repeat", lambda options: copying)
    fake(monkeypatch, "per_position", "measure_positions", lambda options: positions)
    fake(monkeypatch, "attention_distance", "measure_attention", lambda _: {"layers": [layer]})


# --- measures --------------------------------------------------------------------------------


def test_each_measure_runs_where_it_should_and_gets_what_was_agreed(fakes):
    result = measure(tiny(), measures="all", methods=["none", "yarn"], tokenizer=ByteTokenizer())
    where = {name: list(methods["yarn"]) for name, methods in result.measures.items()}
    every = ["16", "32", "64", "128"]
    assert where == {
        **dict.fromkeys(("passkey", "distractors", "copy", "repeat"), every),
        **{"positions": ["128"], "attention": ["128"], "decode": ["32"]},
    }
    assert list(result.protocol["measures"]) == list(MEASURES)
    asked = [(name, options) for name, _, _, options in CALLS]
    keys = [options for name, options in asked if name == "measure_passkey"]
    assert {options["distractors"] for options in keys} == {0, 4}
    assert all(options["trials"] == 110 for options in keys)
    # none, and yarn which at the training length is none
    assert sorted(options["context"] for options in keys) == sorted(
        2 * [16, 32, 32, 64, 64, 128, 128]
    )
    (_, _, (passages,), options) = next(c for c in CALLS if c[0] == "measure_attention")
    assert passages.shape[1] == 129 and options == {"train_length": TRAIN_LENGTH}
    assert result.unmeasured == {} and result.measures["decode"]["yarn"]["32"]["possible"]
    assert "final length" in result.measures["decode"]["yarn"]["32"]["why"]
    json.dumps(asdict(result), allow_nan=False)


def test_the_loss_alone_is_the_default_and_can_be_left_out(fakes):
    assert measure(tiny(), lengths=[16]).measures == {} and CALLS == []
    result = measure(tiny(), lengths=[16], measures=["copy"], methods=["none"])
    assert result.methods["none"]["nll"] == [None] and result.reasons == {}
    assert list(result.measures) == ["copy"] and len(CALLS) == 1


def test_what_a_measure_refuses_is_its_reason_and_no_other_cells(fakes, monkeypatch):
    def refuse(options):
        raise ValueError("context=16: too short for a key")

    fake(monkeypatch, "passkey_retrieval", "measure_passkey", refuse)
    options = {"methods": ["none"], "lengths": [16], "tokenizer": ByteTokenizer()}
    result = measure(tiny(), measures=["loss", "passkey", "copy"], **options)
    assert result.unmeasured == {"passkey": {"none": {"16": "context=16: too short for a key"}}}
    assert result.measures["passkey"]["none"] == {} and result.methods["none"]["nll"][0] > 0


def test_an_entry_of_the_registry_is_all_that_a_new_measure_needs(monkeypatch, tmp_path):
    new = Measure(
        line="layers of the model",
        run=lambda model, task: {"layers": float(len(model.blocks))},
        tokens=lambda material, length: length,
        figure="layers",
        headline=lambda figures: figures["layers"],
        best=None,
        form="{:.0f}",
    )
    monkeypatch.setitem(MEASURES, "new", new)
    settings = replace(check_settings(TRAIN_LENGTH, lengths=[16, 32]), measures=["new"])
    result = measure_checkpoints([subject("a"), subject("b")], [DOCUMENT], BYTES, settings)
    assert result.measures["new"]["none"]["32"]["layers"] == 2
    write_report(result, tmp_path)
    assert "new,layers,yarn,32,2.0,,," in (tmp_path / "extrapolation.csv").read_text()
    assert "## new: layers of the model" in (tmp_path / "extrapolation.md").read_text()


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        (
            ["pass key"],
            r"measures=\[pass key\]: must be .*one of loss, .*; try measures=\[passkey\]",
        ),
        ([7], r"measures=\[7\]: must be .*one of loss, .*decode, all; try measures=\[loss\]"),
        ("passkey", r"measures=passkey: must be a list .*, all; try measures=\[passkey\]"),
        ([], r"measures=\[\]: must be a list"),
    ],
)
def test_a_wrong_measure_is_answered_with_one_that_works(measures, message):
    with pytest.raises(ValueError, match=message):
        check_measures(measures)
    with pytest.raises(ValueError, match="measures="):
        measure(tiny(), measures=measures)


def test_passkey_without_a_tokenizer_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"measures=\[passkey\]: .*needs the model's tokenizer"):
        measure(tiny(), measures=["loss", "passkey"])


# --- differences, tax ------------------------------------------------------------------------


def nats_of(model, method, context):
    """By another road: nats per token and passage (P,), passages of the default settings."""
    passages = choose_passages([DOCUMENT], 128, 48)
    with applied(parse_method(method), model.eval(), context=context, train_length=16):
        return same_target_nll(model, passages, context, 8).mean(axis=1)


def test_differences_are_paired_with_the_trained_model_at_its_length():
    result = measure(tiny(), methods=["yarn@8", "none"])
    base = nats_of(tiny(), "none", 16)
    for name, values in result.methods.items():
        for column, context in enumerate(result.lengths):
            expected = nats_of(tiny(), name, context) - base
            assert values["difference"][column] == pytest.approx(expected.mean(), abs=1e-6)
            low, high = values["difference_ci95"][column]
            assert low <= values["difference"][column] <= high
            ratio = math.exp(values["difference"][column])
            assert values["perplexity_ratio"][column] == pytest.approx(ratio)
            assert values["perplexity_ratio_ci95"][column] == [math.exp(low), math.exp(high)]
    assert result.tax["none"] == {"nll": 0.0, "ci95": [0.0, 0.0]}
    assert result.tax["yarn@8"]["nll"] == result.methods["yarn@8"]["difference"][0] != 0


def test_the_baseline_is_measured_though_nobody_asked_for_its_length():
    result = measure(tiny(), lengths=[64], methods=["linear"])
    assert result.lengths == [64] and list(result.methods) == ["linear"] and result.tax == {}
    passages = choose_passages([DOCUMENT], 64, 48)
    base = same_target_nll(tiny().eval(), passages, 16, 8).mean()
    figures = result.methods["linear"]
    assert figures["difference"][0] == pytest.approx(figures["nll"][0] - base, abs=1e-6)


def test_where_the_targets_reach_past_the_training_length_nothing_is_compared():
    result = measure(tiny(), lengths=[32, 64], target_tokens=24, methods=["none", "crop"])
    assert result.methods["none"]["difference"] == [None, None] and result.tax == {}
    assert result.methods["none"]["nll"][1] > 0
    assert "the targets are longer" in result.reasons["crop"]["64"]


# --- what contexts begin with ----------------------------------------------------------------


def begun(**options):
    """The result of a model that was trained with the token 7 before every text."""
    subject = replace(Subject.in_memory(tiny()), beginning=[7])
    settings = check_settings(TRAIN_LENGTH, [16, 64], ["none", "crop"], target_tokens=4, **options)
    return measure_checkpoints([subject], [DOCUMENT], BYTES, settings)


def test_every_context_begins_with_the_tokens_of_training():
    result = begun(measures=["loss", "positions", "decode"], passages=8)
    passages = choose_passages([DOCUMENT], 64, 8)
    ends = {n: passages[:, -(n + 1) :].copy() for n in (16, 64)}
    for windows in ends.values():
        windows[:, 0] = 7
    for column, (length, windows) in enumerate(ends.items()):
        expected = same_target_nll(tiny().eval(), windows, length, 4).mean()
        assert result.methods["none"]["nll"][column] == pytest.approx(expected)
    # What is left of a context that is cropped begins so as well.
    flat = result.methods["crop"]["nll"]
    assert flat == [result.methods["none"]["nll"][0]] * 2
    assert result.measures["decode"]["none"]["16"]["difference"] < 1e-4


def test_no_hook_stays_on_a_model():
    model = tiny()
    measure(model, lengths=[16], methods=["none"])
    assert not model._forward_pre_hooks


# --- the crop --------------------------------------------------------------------------------


def test_crop_is_the_trained_model_at_its_length_whatever_the_context():
    result = measure(tiny(), methods=["none", "crop"])
    flat = result.methods["crop"]["nll"]
    assert flat == [result.methods["none"]["nll"][0]] * 4
    assert len(set(result.methods["none"]["nll"])) == 4
    passages = choose_passages([DOCUMENT], 128, 48)
    lengths = {"context": 128, "train_length": TRAIN_LENGTH}
    with applied(parse_method("crop"), tiny().eval(), **lengths) as cropped:
        nats = same_target_nll(cropped, passages, 128, 8)
        assert nats.mean() == pytest.approx(flat[0], rel=1e-6)
        logits = cropped(torch.from_numpy(passages[:2, :-1]))
    assert logits.shape == (2, 128, 64) and not logits[:, :112].any() and logits[:, 112:].any()


def test_crop_is_asked_only_what_it_can_be(fakes):
    result = measure(
        tiny(), measures=["copy", "repeat", "decode"], methods=["crop"], lengths=[16, 32]
    )
    assert list(result.measures["copy"]["crop"]) == ["16", "32"]
    assert list(result.measures["repeat"]["crop"]) == ["16"]
    assert "crop" in result.unmeasured["repeat"]["crop"]["32"]
    models = [type(model).__name__ for name, model, _, _ in CALLS if name == "measure_copy"]
    assert models == ["Transformer", "Cropped"]
    for name in ("crop@8", "crop+logn"):
        with pytest.raises(ValueError, match="crop is by itself; try crop"):
            parse_method(name)


# --- going on ------------------------------------------------------------------------------------


def subject(key, scale=1.0, loads=None):
    """A model of its own key, its last norm scaled: another loss for each."""
    model = tiny()
    with torch.no_grad():
        model.norm.weight.mul_(scale)

    def load():
        if loads is not None:
            loads.append(key)
        return model

    return Subject(key, f"runs/{key}", model.config, load, "float32 on cpu", {})


def run(subjects, cells=None, **options):
    settings = check_settings(TRAIN_LENGTH, **{"methods": ["none", "yarn"], **options})
    return measure_checkpoints(subjects, [DOCUMENT], BYTES, settings, cells=cells)


def figures_of(result):
    """All but what a clock says."""
    plain = asdict(result)
    for values in plain["methods"].values():
        values.pop("tokens_per_second")
    return plain


def test_what_was_stopped_goes_on_and_measures_nothing_twice(tmp_path, monkeypatch):
    subjects, expected = [subject("a"), subject("b", 0.5)], run([subject("a"), subject("b", 0.5)])
    cells = Cells(tmp_path / "cells.jsonl", {})
    loss, left = MEASURES["loss"], [4]

    def stops(model, task):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return loss.run(model, task)

    monkeypatch.setitem(MEASURES, "loss", loss._replace(run=stops))
    with pytest.raises(KeyboardInterrupt):
        run(subjects, cells)
    assert len(cells) == 4
    left[0] = 2 * 7 - 4  # none at 4 lengths, yarn at 3, less those that are done
    resumed = run(subjects, Cells(tmp_path / "cells.jsonl", {}))
    assert left == [0] and figures_of(resumed) == figures_of(expected)

    loads = []
    run([subject("a", loads=loads), subject("b", loads=loads)], Cells(tmp_path / "cells.jsonl", {}))
    assert loads == []


def test_a_signal_says_how_to_go_on(tmp_path, monkeypatch):
    from cli.extrapolate import extrapolate_all

    def stops(model, task):
        raise Stopped(signal.SIGINT)

    monkeypatch.setitem(MEASURES, "loss", MEASURES["loss"]._replace(run=stops))
    cells, settings = Cells(tmp_path / "cells.jsonl", {}), check_settings(TRAIN_LENGTH)
    arguments = (settings, cells, [DOCUMENT], ByteTokenizer(), tmp_path)
    with pytest.raises(Stopped, match="SIGINT; 0 finished cells are kept; how to go on") as stop:
        extrapolate_all([subject("a")], *arguments, "how to go on", "png", tensorboards=[])
    assert stop.value.status == 130


# --- several checkpoints ---------------------------------------------------------------------


def test_figures_are_means_over_checkpoints_and_intervals_those_of_passages():
    alone = [run([subject("a")]), run([subject("b", 0.5)])]
    both = run([subject("a"), subject("b", 0.5)])
    assert both.checkpoints == ["runs/a", "runs/b"]
    for name, values in both.methods.items():
        each = [result.methods[name]["nll"] for result in alone]
        assert values["per_checkpoint"] == each
        np.testing.assert_allclose(values["nll"], np.mean(each, axis=0))
        differences = [result.methods[name]["difference"] for result in alone]
        np.testing.assert_allclose(values["difference"], np.mean(differences, axis=0), atol=1e-9)
    same = run([subject("a"), subject("c")])  # twice the same: no more is known than from one
    np.testing.assert_allclose(same.methods["yarn"]["ci95"], alone[0].methods["yarn"]["ci95"])


def test_one_checkpoint_that_fails_leaves_no_figure_and_says_which():
    def broken():
        model = tiny()
        with torch.no_grad():
            model.norm.weight.fill_(math.nan)
        return model

    bad = Subject("b", "runs/b", tiny().config, broken, "float32 on cpu", {})
    result = run([subject("a"), bad], lengths=[32])
    assert result.methods["none"]["nll"] == [None]
    assert result.reasons["none"] == {"32": "checkpoint 2: the loss is not finite"}


def test_progress_covers_all_checkpoints_and_measures_and_ends_at_its_total(fakes):
    seen = []
    settings = check_settings(TRAIN_LENGTH, measures="all", methods=["none", "yarn"])
    measure_checkpoints(
        [subject("a"), subject("b")],
        [DOCUMENT],
        BYTES,
        settings,
        tokenizer=ByteTokenizer(),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    totals = {total for _, total in seen}
    assert len(totals) == 1 and seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
