"""Fixtures of the kernels' tests."""

import pytest


@pytest.fixture
def launches(monkeypatch):
    """Every launch of a kernel in a test, and its tensors."""
    from kernels.launch import Launch

    recorded = []
    run = Launch.__call__

    def record(launch, *tensors):
        recorded.append((launch, tensors))
        run(launch, *tensors)

    monkeypatch.setattr(Launch, "__call__", record)
    return recorded
