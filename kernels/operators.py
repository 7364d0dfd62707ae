"""The operators that stand for the kernels in graphs which torch.compile captures.

Every copy of this package registers operators of its own, in a namespace that holds its name, so
that copies under several names can be imported into one process: `torch.ops.ropewalk.rotate` of
the installed package, `torch.ops.ropewalk_kernels.rotate` of the clone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

_NAME = re.sub(r"\W", "_", str(__package__))
NAMESPACE = _NAME if _NAME == "ropewalk" else f"ropewalk_{_NAME}"
LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")
OPS = getattr(torch.ops, NAMESPACE)


def define(schema: str, function: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Define the operator `schema` ("name(arguments) -> results") as OPS.name.

    Args:
        schema: as torch.library writes it; a name followed by (a!) is written in place.
        function: runs it, on CPU and CUDA tensors.
        fake: makes results of the right shapes and dtypes from tensors that have no memory.
    """
    name = schema.partition("(")[0]
    LIBRARY.define(schema, tags=torch.Tag.pt2_compliant_tag)
    for key in ("CPU", "CUDA"):
        LIBRARY.impl(name, function, key)
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=LIBRARY)
