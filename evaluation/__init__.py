"""How far past its training length a model reads, and which method carries it further.

result = measure_extrapolation(model, documents, token_bytes, train_length=256)
write_report(result, "runs/x")     # extrapolation.json, .csv, .md, .png
"""

from evaluation.cells import CELLS, Cells
from evaluation.extrapolation import (
    Extrapolation,
    Subject,
    describe,
    measure_checkpoints,
    measure_extrapolation,
    precision_of,
)
from evaluation.measures.registry import MEASURES
from evaluation.report.report import figure, log_tensorboard, write_report
from evaluation.report.tables import legend, table, tables
from evaluation.settings import Settings, check_lengths_fit, check_settings
from methods.method import METHODS, Method, check_possible, parse_method

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
    "table",
    "tables",
    "write_report",
]
