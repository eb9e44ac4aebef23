"""Looks for better settings with Optuna, judged on dev alone."""

import dataclasses

import numpy as np

from models.forecaster import Rows, Settings, dev_loss


def search(
    tasks: list[Rows], names: list[str], start: Settings, trials: int, seed: int
) -> Settings:
    """The settings of least mean dev log loss, relative to `start`, over the tasks.

    The starting settings are the first trial, so the result is never worse on dev. The sampler is
    seeded: equal rows, start, trials and seed give equal settings.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    base = [dev_loss(rows, names, start, seed) for rows in tasks]

    def loss(trial: optuna.Trial) -> float:
        found = _suggested(trial, start)
        return float(
            np.mean(
                [
                    dev_loss(rows, names, found, seed) / reference
                    for rows, reference in zip(tasks, base, strict=True)
                ]
            )
        )

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(
        {
            "learning_rate": start.learning_rate,
            "leaves": start.leaves,
            "rows_per_leaf": start.rows_per_leaf,
            "feature_share": start.feature_share,
            "l2": start.l2,
        }
    )
    study.optimize(loss, n_trials=trials)
    return dataclasses.replace(start, **study.best_params)


def _suggested(trial: "object", start: Settings) -> Settings:
    import optuna

    assert isinstance(trial, optuna.Trial)
    return dataclasses.replace(
        start,
        learning_rate=trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        leaves=trial.suggest_int("leaves", 4, 63, log=True),
        rows_per_leaf=trial.suggest_int("rows_per_leaf", 20, 1000, log=True),
        feature_share=trial.suggest_float("feature_share", 0.2, 1.0),
        l2=trial.suggest_float("l2", 0.1, 100.0, log=True),
    )
