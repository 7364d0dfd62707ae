"""A scaling that a reader of CONTRIBUTING adds: what is forgotten is named."""

from dataclasses import dataclass

import pytest

from common.rules import above
from model import ScalingConfig, TransformerConfig, rope_frequencies
from model.scalings import SCALINGS, SETTINGS, STRETCHED, Linear


@dataclass(frozen=True)
class Sharper(Linear):
    """Linear, and an option of its own."""

    gain: float = 2.0

    def __call__(self, theta, rotary_dim, seq_len):
        inv_freq, _ = super().__call__(theta, rotary_dim, seq_len)
        return inv_freq, self.gain


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setitem(SCALINGS, "sharper", Sharper)


def test_an_option_without_a_rule(added, monkeypatch):
    said = r"^scaling sharper: its option gain has no rule; add one to SETTINGS in model/scalings"
    for options in ({}, {"gain": 3.0}):
        with pytest.raises(ValueError, match=said):
            rope_frequencies(16, method="sharper", factor=2.0, **options)
        with pytest.raises(ValueError, match=said):
            TransformerConfig(scaling=ScalingConfig("sharper", 2.0, options=options))
    monkeypatch.setitem(SETTINGS, "gain", above(0, 2.0))
    assert rope_frequencies(16, method="sharper", factor=2.0, gain=3.0)[1] == 3.0
    with pytest.raises(ValueError, match=r"gain=-1: must be a finite number above 0; try gain=2"):
        rope_frequencies(16, method="sharper", factor=2.0, gain=-1)


def test_a_name_that_is_not_in_stretched(added, monkeypatch):
    monkeypatch.setitem(SETTINGS, "gain", above(0, 2.0))
    with pytest.raises(ValueError, match=r"factor=None: needs a number, .*STRETCHED"):
        rope_frequencies(16, method="sharper")
    monkeypatch.setattr("model.frequencies.STRETCHED", (*STRETCHED, "sharper"))
    with pytest.raises(ValueError, match=r"^factor=None: sharper needs a number, or seq_len and "):
        rope_frequencies(16, method="sharper")


def test_a_missing_factor_is_said_in_the_users_terms():
    with pytest.raises(ValueError) as python:
        rope_frequencies(16, method="linear")
    assert str(python.value) == (
        "factor=None: linear needs a number, or seq_len and train_length; try factor=4.0"
    )
    with pytest.raises(ValueError) as command:
        TransformerConfig(scaling=ScalingConfig("linear"))
    said = "scaling.factor=None: linear needs a number; try scaling.factor=4.0"
    assert str(command.value) == said
