"""How far past its training length a model reads, and which method carries it further.

result = measure_extrapolation(model, documents, token_bytes, train_length=256)
write_report(result, "runs/x")     # extrapolation.json, .csv, .png
"""

from evaluation.extrapolation import Extrapolation, measure_extrapolation
from evaluation.methods import METHODS, Method, check_possible, parse_method
from evaluation.report import figure, legend, log_tensorboard, table, write_report
from evaluation.settings import check_settings

__all__ = [
    "METHODS",
    "Extrapolation",
    "Method",
    "check_possible",
    "check_settings",
    "figure",
    "legend",
    "log_tensorboard",
    "measure_extrapolation",
    "parse_method",
    "table",
    "write_report",
]
