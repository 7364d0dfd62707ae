"""What of a path says that it leads to a model from elsewhere."""

from pathlib import Path

import pytest

from training.foreign import is_foreign


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model", True),
        ("./model", True),
        ("run", False),
        ("other.json", False),
        ("owner/name", True),
        ("owner/name@v1.0", True),
        ("run/name", False),  # a folder is there, and has no such thing in it
        ("runs/name", False),
        ("owner/name/part", False),
        ("nowhere", False),
        ("/owner/name", False),
        ("../owner/name", False),
        ("", False),
    ],
)
def test_paths(path: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("model", '{"model_type": "llama"}'), ("run", '{"a": 1}')):
        Path(name).mkdir()
        Path(name, "config.json").write_text(content)
    Path("other.json").write_text('{"model_type": "llama"}')
    assert is_foreign(path) is expected
