"""Checks of MLflow: the settings in the environment, and whether the server has all that a training needs."""

import os
from collections.abc import Iterator
from pathlib import Path

from components import tracking
from components.base import patience
from components.base.errors import MuraError, UsageError
from components.cli.check import Check
from components.kubeflow import pod
from components.tracking import address, local_database, mlflow_settings, readiness, server


def examine() -> Iterator[Check]:
    """Ask what `mura train` asks at its beginning."""
    mlflow_settings.apply()
    for name, value in sorted(mlflow_settings.overruled.items()):
        instead, why = mlflow_settings.OVERRULED[name]
        yield Check("overruled", f"{name}={value} of the environment is not used; {instead} is: {why}")
    try:
        server.patience(elsewhere=0.0)
    except UsageError as problem:
        yield Check(server.PATIENCE, str(problem), problem)
        return
    if address.is_off():
        yield Check("MLflow", f"{tracking.URI} is {address.OFF}: trainings leave no run; register and promote refuse")
        return
    if not os.environ.get(tracking.URI) and not Path(local_database.DEFAULT).exists() and not pod.inside():
        yield Check("MLflow", f"{tracking.URI} is not set: {local_database.DEFAULT} in the working directory")
        return
    try:
        with patience.none():
            client = tracking.connect()
        readiness.check(client, server.experiment_id(client))
    except MuraError as problem:
        yield Check("MLflow", str(problem), problem)
        return
    yield Check("MLflow", f"{tracking.shown_uri()} answers, keeps models, takes files and gives them back")
