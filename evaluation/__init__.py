"""How far past its training length a model reads, and which method carries it further.

result = measure_extrapolation(model, documents, token_bytes, train_length=256)
write_report(result, "runs/x")     # extrapolation.json, .csv, .md, .png

Reading order:

    passages.py       the protocol: the same targets with ever longer left context
    settings.py       what is asked for: lengths, methods, measures
    subject.py        the models that are measured; precision.py: what they compute in
    measures/         what can be measured, a file for each; registry.py names them
    plan.py           which cells there are: a measure under a method at a length
    cells.py          finished cells, kept on the disk
    engine.py         runs the cells of one model
    aggregate.py      from cells to figures; statistics.py: their intervals
    estimates.py      differences of figures, and which is best beyond their interval
    setting.py        the best method in the words of transformers' config.json
    result.py         the result as plain data
    measurement.py    the cells of some models, run where they are missing, and their result
    extrapolation.py  all of it in order; columns.py: the same of different models, side by side
    report/           tables, files, pictures, TensorBoard

What is asked for is checked without torch; the rest is imported when it is asked for.
"""

from typing import TYPE_CHECKING

from common.lazy import importing
from evaluation.measures.registry import MEASURES
from evaluation.settings import (
    Settings,
    check_lengths_fit,
    check_passages_fit,
    check_settings,
    check_text_is_enough,
    setting_problems,
    unread,
)
from methods.method import METHODS, Method, check_possible, parse_method

if TYPE_CHECKING:
    from evaluation.cells import CELLS, Cells
    from evaluation.columns import Column, Columns, measure_columns
    from evaluation.extrapolation import measure_checkpoints, measure_extrapolation
    from evaluation.measurement import OnProgress
    from evaluation.precision import precision_of
    from evaluation.report.columns.files import write_columns
    from evaluation.report.columns.terminal import column_tables
    from evaluation.report.figures import figure
    from evaluation.report.files import write_report
    from evaluation.report.setting import setting_json, setting_words
    from evaluation.report.tensorboard import log_tensorboard
    from evaluation.report.terminal import legend, table, tables
    from evaluation.result import Extrapolation
    from evaluation.subject import Subject, describe

__all__ = [
    "CELLS",
    "MEASURES",
    "METHODS",
    "Cells",
    "Column",
    "Columns",
    "Extrapolation",
    "Method",
    "OnProgress",
    "Settings",
    "Subject",
    "check_lengths_fit",
    "check_passages_fit",
    "check_possible",
    "check_settings",
    "check_text_is_enough",
    "column_tables",
    "describe",
    "figure",
    "legend",
    "log_tensorboard",
    "measure_checkpoints",
    "measure_columns",
    "measure_extrapolation",
    "parse_method",
    "precision_of",
    "setting_json",
    "setting_problems",
    "setting_words",
    "table",
    "tables",
    "unread",
    "write_columns",
    "write_report",
]

__getattr__ = importing(
    __name__,
    {
        "evaluation.cells": ["CELLS", "Cells"],
        "evaluation.columns": ["Column", "Columns", "measure_columns"],
        "evaluation.extrapolation": ["measure_checkpoints", "measure_extrapolation"],
        "evaluation.measurement": ["OnProgress"],
        "evaluation.precision": ["precision_of"],
        "evaluation.report.columns.files": ["write_columns"],
        "evaluation.report.columns.terminal": ["column_tables"],
        "evaluation.report.figures": ["figure"],
        "evaluation.report.files": ["write_report"],
        "evaluation.report.setting": ["setting_json", "setting_words"],
        "evaluation.report.tensorboard": ["log_tensorboard"],
        "evaluation.report.terminal": ["legend", "table", "tables"],
        "evaluation.result": ["Extrapolation"],
        "evaluation.subject": ["Subject", "describe"],
    },
)
