"""Train a transformer from its config, then measure how far past its training length it goes."""

import sys
from typing import Any

from omegaconf import DictConfig

from cli import Overrides, UserError, run_command, user_errors
from cli.command import COMMAND, seconds_since_start


def main(composed: DictConfig, overrides: Overrides) -> float:
    """One run. Returns its best validation loss, which is what a sweep compares."""
    from cli.plan import plan_run

    plan = plan_run(composed, overrides)

    from cli.environment import environment  # from here on torch is loaded
    from cli.rundir import claim, save_config
    from common.files import write_json
    from evaluation import check_lengths_fit
    from training import Run
    from training.prepare import prepare

    with user_errors():
        prepared = prepare(plan.config, plan.checkpoint)
        lengths = plan.config["evaluation"]["lengths"]
        check_lengths_fit(lengths, prepared.data.val_documents, "evaluation.lengths")

    # Everything that can be wrong has been tried: now write.
    directory = plan.run or claim(plan.config["run_dir"], plan.config["name"])
    save_config(directory, prepared.config, overrides.lines)
    write_json(directory / "environment.json", environment(prepared.device, COMMAND))
    with user_errors():
        run = Run(prepared, directory, plan.checkpoint, resumed=plan.run is not None)
    return fit_and_measure(run)


def fit_and_measure(run: Any) -> float:
    """Train, measure extrapolation on the best checkpoint, write the results."""
    from cli.announce import announce, summarize
    from cli.extrapolate import extrapolate
    from training import Interrupted

    announce(run)
    try:
        run.fit()
    except FloatingPointError as error:
        raise UserError(str(error)) from error
    except Interrupted as stop:
        print(f"\n{stop}; {run.how_to_go_on()}", file=sys.stderr)
        sys.exit(128 + stop.number)
    data, config = run.prepared.data, run.prepared.config
    extrapolate(
        run.best_network(),
        data.val_documents,
        data.tokenizer,
        config["data"]["seq_len"],
        config["evaluation"],
        run.directory,
    )
    results = run.write_results(seconds_since_start())
    summarize(run, results)
    return results["val/loss"]


if __name__ == "__main__":
    run_command(main, config_name="train")
