"""Which method is named for a model's config.json, and in what words."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from evaluation import (
    Cells,
    Extrapolation,
    Subject,
    check_settings,
    setting_json,
    setting_words,
)
from evaluation.cells import Cell, Key
from evaluation.measurement import Measurement
from evaluation.report.files import markdown
from tiny_extrapolation import BYTES, DOCUMENT, TRAIN_LENGTH, tiny

HARD = np.random.default_rng(0).gamma(20.0, 5.0, 16)
NOISE = np.random.default_rng(1).normal(0, 0.5, (9, 16))
LENGTHS = (16, 64, 128)


def found(
    shifts: dict[str, tuple[float, float]], family: str | None = "llama", **fields: object
) -> Extrapolation:
    """The result for losses of 16 passages, shifted by method at 64 and at 128 tokens, in nats."""
    subject = replace(Subject.in_memory(tiny()), family=family)
    subject = replace(subject, config=replace(subject.config, **fields))
    settings = check_settings(TRAIN_LENGTH, LENGTHS, list(shifts), passages=16, target_tokens=4)
    document = np.tile(DOCUMENT, 2)
    cells = Cells()
    measured = Measurement([subject], [document], BYTES * 2, settings, None, cells)
    for number, at in enumerate(measured.missing(subject)):
        shift = dict(zip(LENGTHS[1:], shifts.get(at.method, (0, 0)), strict=True)).get(at.length, 0)
        nats = HARD + shift + NOISE[number % 9]
        cells.add(Key(subject.key, *at), Cell({"nats": nats.tolist()}, None, 1.0, None, None))
    return measured.result()


def test_the_best_method_at_the_longest_length_is_named_as_transformers_names_it() -> None:
    result = found({"none": (9, 9), "yarn": (0, 2), "linear": (3, 4), "crop": (-9, -9)})
    assert result.setting == {
        "length": 128,
        "best": "yarn",
        "method": "yarn",
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 16,
        },
    }
    words, pasted = setting_words(result), setting_json(result)
    assert words == (
        "yarn is the best at 128 tokens (8x), beyond the interval better than none. "
        "For config.json:"
    )
    assert pasted and pasted.startswith('"rope_parameters": {\n') and pasted in markdown(result)


def test_where_none_is_no_worse_a_shorter_length_is_looked_at() -> None:
    setting = found({"none": (9, 9), "linear": (0, 9)}).setting
    assert setting and (setting["length"], setting["rope_parameters"]["factor"]) == (64, 4.0)


def test_what_transformers_has_not_is_said_with_the_best_that_it_has() -> None:
    result = found({"none": (9, 9), "rerope": (0, 0), "yarn+logn": (1, 1), "ntk@4": (2, 2)})
    assert result.setting and (result.setting["best"], result.setting["method"]) == (
        "rerope",
        "ntk@4",
    )
    words = setting_words(result)
    assert (
        words and "transformers has no such setting. The best of those that it has is ntk" in words
    )
    alone = found({"none": (9, 9), "rerope": (0, 0)})
    words = setting_words(alone)
    assert words and words.endswith("nor one for another method that is better than none.")
    assert setting_json(alone) is None


def test_a_type_that_its_family_does_not_read_is_no_setting() -> None:
    result = found({"none": (9, 9), "yarn": (0, 2), "ntk": (3, 4)}, family="phi3")
    assert result.setting is not None
    assert (result.setting["best"], result.setting["method"]) == ("yarn", "ntk")
    assert result.setting["rope_parameters"]["rope_type"] == "default"


def test_nothing_is_recommended_where_chance_may_have_made_it() -> None:
    result = found({"none": (0, 0), "yarn": (0, 0)})
    assert result.setting and result.setting["best"] is None
    words = setting_words(result)
    assert words and "no setting to recommend" in words and setting_json(result) is None


@pytest.mark.parametrize("shifts", [{"none": (9, 9)}, {"none": (9, 9), "crop": (0, 0)}])
def test_nothing_is_said_where_nothing_was_compared(shifts: dict) -> None:
    result = found(shifts)
    assert result.setting is None and setting_words(result) is None
    assert "## Setting" not in markdown(result)


def test_a_model_of_this_project_has_no_config_json() -> None:
    assert found({"none": (9, 9), "yarn": (0, 0)}, family=None).setting is None


def test_two_thetas_are_written_by_type_of_layer() -> None:
    two = {"window": 8, "pattern": ["full", "window"], "local_theta": 500.0}
    setting = found({"none": (9, 9), "linear": (0, 0)}, **two).setting
    assert setting and setting["rope_parameters"] == {
        "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
    }


def test_the_loss_by_tokens_stands_where_tokens_are_no_bytes() -> None:
    from evaluation import tables

    console = Console(width=200)
    with console.capture() as capture:
        for table in tables(found({"none": (9, 9)})):
            console.print(table)
    text = capture.get()
    assert "Nats per token" in text and "a token is 2.00 bytes" in text
    assert "## Nats per token" in markdown(found({"none": (9, 9)}))
