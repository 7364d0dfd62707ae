"""How far past its training length a model reads, and which method carries it further.

result = measure_extrapolation(model, documents, token_bytes, train_length=256)
write_report(result, "runs/x")     # extrapolation.json, .csv, .png
"""

from evaluation.extrapolation import Extrapolation, check_settings, measure_extrapolation
from evaluation.methods import METHODS
from evaluation.report import figure, log_tensorboard, table, write_report

__all__ = [
    "METHODS",
    "Extrapolation",
    "check_settings",
    "figure",
    "log_tensorboard",
    "measure_extrapolation",
    "table",
    "write_report",
]
