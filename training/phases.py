"""Phases of training: they change the model, or how it is trained, from a step on.

A phase is a Lightning callback that stands in configs/phases, with keys of the config as its
arguments. While those are null it does nothing. Nothing but that file knows a phase by name: what
must be known of one before a run begins, it says itself.
"""

from collections.abc import Mapping
from typing import Any

import lightning as L
from hydra.utils import instantiate


class Phase(L.Callback):
    """A phase of training, and what it says of a run before it begins."""

    def problems(self, config: Mapping[str, Any], typed: Mapping[str, str]) -> list[str]:
        """A line for every rule on the phase's keys that is broken.

        The other values of `config` are right; `typed` are the user's overrides, by key.
        """
        return []

    def final_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """The config of the model that a run of `config` ends with."""
        return config

    def describe(self) -> list[tuple[str, str]]:
        """What to add to rows of a run's announcement: (row, text)."""
        return []


def build_phases(config: Mapping[str, Any]) -> list[Phase]:
    """The phases of a composed config, in their order; those that are off included.

    `config["phases"]` must be the project's own or typed today: a class that a run's directory
    names is never used (`cli.resume`).
    """
    return [instantiate(settings) for settings in config["phases"].values()]


def phase_problems(config: Mapping[str, Any], typed: Mapping[str, str]) -> list[str]:
    """A line for every rule on the keys of phases that is broken; `typed`: overrides, by key."""
    return [line for phase in build_phases(config) for line in phase.problems(config, typed)]


def final_config(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the model that a run of `config` ends with, the one that is measured."""
    for phase in build_phases(config):
        config = phase.final_config(config)
    return config


def describe(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the phases of a run add to rows of its announcement: (row, text)."""
    return [line for phase in build_phases(config) for line in phase.describe()]
