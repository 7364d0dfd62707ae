"""Models from elsewhere: what of a path says that it leads to one. Needs no torch."""

import os

import hf

RUNS = "runs"  # the folder of runs, whether it is there already or not


def is_foreign(path: str) -> bool:
    """Whether a path is that of a model from elsewhere: in Hugging Face's layout, or on its Hub.

    What is not there, and would lie in a folder that is there, was mistyped: no name of a model.
    """
    if os.path.exists(path):
        return hf.is_directory(path)
    owner = path.partition("/")[0]
    return hf.is_name(path) and owner != RUNS and not os.path.exists(owner)
