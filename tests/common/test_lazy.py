"""Packages whose names come when they are asked for: each is there, and is no module."""

import importlib
from types import ModuleType

import pytest

from common.lazy import importing

PACKAGES = ("benchmarks", "data", "evaluation", "model", "training")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_can_be_had(package: str) -> None:
    room = importlib.import_module(package)
    for _ in range(2):  # a module of the same name would take its place when it is imported
        for name in room.__all__:
            assert not isinstance(getattr(room, name), ModuleType), name
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = room.nothing


def test_a_name_is_looked_up_in_its_module() -> None:
    get = importing("here", {"math": ["pi", "tau"]})
    assert get("tau") == 2 * get("pi")
    with pytest.raises(AttributeError):
        get("e")
