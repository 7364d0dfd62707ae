"""Lists of checkpoints, among them those of a sweep's jobs, whose names hold commas."""

from pathlib import Path

import pytest

from cli.paths import listed


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("[lr=1,seed=1,lr=1]", ["lr=1,seed=1", "lr=1"]),
        ("[lr=1, lr=1,seed=1]", ["lr=1", "lr=1,seed=1"]),
        ("['lr=1,seed=1','no,where']", ["lr=1,seed=1", "no,where"]),
        ('["lr=1,seed=1" , lr=1]', ["lr=1,seed=1", "lr=1"]),
        ("[it's,lr=1]", ["it's", "lr=1"]),
        ("[no,,where]", ["no", "", "where"]),
        ("lr=1,seed=1", ["lr=1,seed=1"]),
        ("[]", [""]),
    ],
)
def test_paths(
    text: str, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lr=1,seed=1", "lr=1"):
        Path(name).mkdir()
    assert listed(text) == paths
