"""The setting that makes a model read further, in the words of transformers' config.json.

Where several lengths were measured it is the one of the longest at which some method is better than
the model as trained, beyond the 95 % interval of the difference.
"""

from __future__ import annotations

from typing import Any

import hf
from evaluation.aggregate import Results
from evaluation.estimates import Estimate, best_of, estimates_at
from evaluation.settings import Settings
from methods.method import Method
from model.config import TransformerConfig

import numpy as np
