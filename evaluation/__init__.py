"""How far past its training length a model reads, and which method carries it further.

result = measure_extrapolation(model, documents, token_bytes, train_length=256)
write_report(result, "runs/x")     # extrapolation.json, .csv, .md, .png

What is asked for is checked without torch; the rest is imported when it is asked for.
"""

from typing import TYPE_CHECKING

from common.lazy import importing
from evaluation.measures.registry import MEASURES
from evaluation.settings import Settings, check_lengths_fit, check_settings, setting_problems
from methods.method import METHODS, Method, check_possible, parse_method

if TYPE_CHECKING:
    from evaluation.cells import CELLS, Cells
    from evaluation.extrapolation import (
        Extrapolation,
        Subject,
        describe,
        measure_checkpoints,
        measure_extrapolation,
        precision_of,
    )
    from evaluation.report.report import figure, log_tensorboard, write_report
    from evaluation.report.tables import legend, table, tables

__all__ = [
    "CELLS",
    "MEASURES",
    "METHODS",
    "Cells",
    "Extrapolation",
    "Method",
    "Settings",
    "Subject",
    "check_lengths_fit",
    "check_possible",
    "check_settings",
    "describe",
    "figure",
    "legend",
    "log_tensorboard",
    "measure_checkpoints",
    "measure_extrapolation",
    "parse_method",
    "precision_of",
    "setting_problems",
    "table",
    "tables",
    "write_report",
]

__getattr__ = importing(
    __name__,
    {
        "evaluation.cells": ["CELLS", "Cells"],
        "evaluation.extrapolation": [
            *("Extrapolation", "Subject", "describe", "precision_of"),
            *("measure_checkpoints", "measure_extrapolation"),
        ],
        "evaluation.report.report": ["figure", "log_tensorboard", "write_report"],
        "evaluation.report.tables": ["legend", "table", "tables"],
    },
)
