"""The families of models that can be read and written, by `model_type`."""

from collections.abc import Iterator
from typing import Any

from common.rules import shown
from hf.families import arcee, cohere, gemma, glm, gpt2, llama, mpt, neox, olmo, phi
from hf.families.family import Family


def _registered() -> Iterator[Family]:
    for module in (llama, arcee, olmo, gemma, neox, phi, cohere, glm, gpt2, mpt):
        yield from module.FAMILIES


FAMILIES: dict[str, Family] = {family.model_type: family for family in _registered()}


def family_of(model_type: Any) -> Family:
    """The family of a config.json's `model_type`; ValueError, with what there is, for others."""
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    raise ValueError(
        f"model_type={shown(model_type)}: no network here computes it; "
        f"what can be read is {', '.join(FAMILIES)}"
    )
