"""Train a transformer from its config, then measure how far past its training length it goes."""

from typing import Any

from omegaconf import DictConfig

from cli import Overrides, UserError, run_command, user_errors
from cli.check import check_job
from cli.command import seconds_since_start


def main(composed: DictConfig, overrides: Overrides) -> float:
    """One run. Returns its best validation loss, which is what a sweep compares."""
    from cli.plan import plan_run

    plan = plan_run(composed, overrides)

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

    return fit_and_measure(Placed(plan, prepared, overrides.lines))


def fit_and_measure(placed: Any) -> float:
    """Train, measure extrapolation on the best checkpoint, write the results."""
    from cli.announce import announce, summarize
    from cli.extrapolate import extrapolate

    run = placed.run
    announce(run)
    try:
        placed.fit()
    except FloatingPointError as error:
        raise UserError(str(error)) from error
    extrapolate(run)
    results = run.results(seconds_since_start())
    run.write_results(results)
    summarize(run, results)
    return results["val/loss"]


if __name__ == "__main__":
    run_command(main, config_name="train", check=check_job)
