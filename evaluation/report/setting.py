"""What of the result goes into transformers' config.json, in words and as it is pasted there."""

from __future__ import annotations

import json

from evaluation.report.comparison import times
from evaluation.result import Extrapolation


def setting_words(result: Extrapolation) -> str | None:
    """Which method carries the model further; None where nobody asks."""
    found = result.setting
    if found is None:
        return None
    if found["best"] is None:
        return (
            "No method reads past the training length better than none, beyond the 95 % interval: "
            "there is no setting to recommend."
        )
    length = f"{found['length']} tokens ({times(found['length'], result.train_length)}x)"
    best = f"{found['best']} is the best at {length}, beyond the interval better than none"
    if found["method"] == found["best"]:
        return f"{best}. For config.json:"
    lacking = f"{best}; transformers has no such setting"
    if found["method"] is None:
        return f"{lacking}, nor one for another method that is better than none."
    return f"{lacking}. The best of those that it has is {found['method']}. For config.json:"


def setting_json(result: Extrapolation) -> str | None:
    """The line of config.json, with its key; None where there is none."""
    if result.setting is None or result.setting["rope_parameters"] is None:
        return None
    return f'"rope_parameters": {json.dumps(result.setting["rope_parameters"], indent=2)}'
