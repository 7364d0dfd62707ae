"""What a folder in Hugging Face's layout says of its model, before any weight is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf.families import family_of
from hf.families.family import Family
from hf.files import CONFIG, read_json, saying
from model.config import TransformerConfig


@dataclass(frozen=True)
class Description:
    """A model as its config.json describes it."""

    directory: Path
    family: Family
    config: TransformerConfig
    max_length: int  # max_position_embeddings
    raw: dict[str, Any]  # all of config.json
    dtype: str  # that its author names: float32, bfloat16, float16


def read(directory: str | Path, where: str | None = None, backend: str = "auto") -> Description:
    """Read a folder's config.json; needs no torch and runs nothing of the folder.

    Keys such as `auto_map`, which name code to be run, are let be: a known `model_type` is read as
    that type. Raises ValueError, in which `where` stands before the colon of each line, for a
    config.json that cannot be read and, by name, for what our Transformer cannot express.
    """
    directory = Path(directory)
    where = where or f"checkpoint={directory}"
    raw = read_json(directory / CONFIG, where)
    with saying(f"{where}: in its {CONFIG}, "):
        family = family_of(raw.get("model_type"))
        fields = family.read_config(raw)
        config = TransformerConfig(**fields, backend=backend)
    assert config.train_length is not None
    dtype = raw.get("dtype") or raw.get("torch_dtype") or "float32"
    return Description(directory, family, config, config.train_length, raw, str(dtype))
