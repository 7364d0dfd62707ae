"""The figures of several checkpoints as one."""

from evaluation.aggregate import pool
from evaluation.statistics import wilson_ci95


def test_passkey_trials_of_all_checkpoints_are_counted_together():
    first = {"accuracy": 0.5, "ci95": [0.0, 1.0], "digit_accuracy": 0.5, "depths": [0.0, 1.0]}
    first |= {"correct": [4, 1], "trials": [5, 5]}
    second = {**first, "accuracy": 1.0, "digit_accuracy": 1.0, "correct": [5, 5]}
    pooled = pool("passkey", [first, second])
    assert pooled["correct"] == [9, 6] and pooled["trials"] == [10, 10]
    assert pooled["accuracy"] == 0.75 and pooled["ci95"] == wilson_ci95(15, 20)
    assert pooled["digit_accuracy"] == 0.75 and pooled["depths"] == [0.0, 1.0]
    assert pooled["per_checkpoint"] == [first, second]
    assert pool("passkey", [first]) == first


def test_other_figures_of_checkpoints_are_means_or_the_worst():
    layers = [{"layers": [{"entropy": e, "mean_distance": 4.0}]} for e in (0.5, 1.0)]
    assert pool("attention", layers)["layers"] == [{"entropy": 0.75, "mean_distance": 4.0}]
    positions = [{"from": [1], "nll": [x], "ci95": [None]} for x in (1.0, 2.0)]
    mean = pool("positions", positions)
    assert (mean["from"], mean["nll"], mean["ci95"]) == ([1], [1.5], [None])
    decoded = {"full": 1.0, "decoded": 1.0, "difference": 1e-6, "possible": True, "why": None}
    worse = {**decoded, "difference": 1e-3}
    assert pool("decode", [decoded, worse])["difference"] == 1e-3
    none = {**decoded, "decoded": None, "difference": None, "possible": False, "why": "no"}
    assert pool("decode", [decoded, none])["possible"] is False
