"""Train a transformer from its config, then measure how far past its training length it goes."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cli import Overrides, UserError, run_command, user_errors
from cli.check import check_job
from cli.command import seconds_since_start
from common.terminal import say


def main(composed: DictConfig, overrides: Overrides) -> float:
    """One run. Returns its best validation loss, which is what a sweeper compares."""
    from cli.plan import plan_run

    plan = plan_run(composed, overrides)
    if plan.ended:
        return result_of(plan)

    from cli.place import Placed  # from here on torch is loaded
    from evaluation import check_lengths_fit, check_passages_fit, check_settings
    from training.prepare import prepare

    with user_errors():
        prepared = prepare(plan.config, plan.checkpoint)
        asked, documents = plan.config["evaluation"], prepared.data.val_documents
        check_lengths_fit(asked["lengths"], documents, "evaluation.lengths")
        if overrides.of("evaluation.passages"):
            settings = check_settings(plan.config["data"]["seq_len"], **asked)
            check_passages_fit(settings, documents, "evaluation.passages")

    return fit_and_measure(Placed(plan, prepared, overrides))


def fit_and_measure(placed: Any) -> float:
    """Train, measure extrapolation on the best checkpoint, write the results."""
    from cli.announce import announce, summarize
    from cli.extrapolate import extrapolate
    from reports.pages import write_run_page

    run = placed.run
    announce(run)
    try:
        placed.fit()
    except FloatingPointError as error:
        raise UserError(str(error)) from error
    extrapolate(run)
    results = run.results(seconds_since_start())
    try:
        page = write_run_page(run.directory, results, run.prepared.config["figures"])
    finally:  # a page that cannot be drawn is a bug to be seen, and no reason to lose the figures
        run.write_results(results)
    summarize(run, results, page)
    return results["val/loss"]


def result_of(plan: Any) -> float:
    """What a job of a sweep has found that ended before."""
    from training.kept import RESULTS

    say(f"{plan.run} has ended before")
    path = plan.run / RESULTS
    try:
        return float(json.loads(path.read_bytes())["val/loss"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged; remove it, so that the run ends anew") from error


def compare(runs: list[Path]) -> None:
    """What all jobs of a sweep have found."""
    from cli.sweep import after

    after(runs)


if __name__ == "__main__":  # as @hydra.main, which completion in fish looks for
    run_command(main, config_name="train", check=check_job, after_sweep=compare)
