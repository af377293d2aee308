"""An address of MLflow that cannot be right is refused, with what was probably meant."""

import pytest

from components import tracking
from components.base.errors import UsageError

WRONG = {
    "sqlite://mlflow.db": "Set it to sqlite:///mlflow.db.",
    "sqlite:/tmp/runs.db": "Set it to sqlite:////tmp/runs.db.",
    "sqlite:mlflow.db": "Set it to sqlite:///mlflow.db.",
    "sqlite+pysqlite:///mlflow.db": "Set it to sqlite:///mlflow.db.",
    "SQLite:///mlflow.db": "Set it to sqlite:///mlflow.db.",
    "sqlite://": "in memory",
    "sqlite:///:memory:": "in memory",
    "sqlite:///~/mlflow.db": "does not know ~",
    "sqlite:////tmp": "Set it to sqlite:////tmp/mlflow.db.",
    "mlflow.db": "Set it to sqlite:///mlflow.db.",
    "http://mlflow:5000/#/experiments/1": "Set it to http://mlflow:5000.",
    "http://mlflow:5000/?workflowType=machine_learning": "Set it to http://mlflow:5000.",
    "https://mlflow.example.org/team/#/models": "Set it to https://mlflow.example.org/team.",
    "http://mlflow:5000/api/2.0/mlflow": "Set it to http://mlflow:5000.",
    "127.0.0.1:5000": "Set it to http://127.0.0.1:5000.",
    "localhost:5000": "Set it to http://localhost:5000.",
    "mlflow.mura.svc:5000/": "Set it to http://mlflow.mura.svc:5000/.",
    "[::1]:5000": "Set it to http://[::1]:5000.",
    "http:/127.0.0.1:5000": "Set it to http://127.0.0.1:5000.",
    "http//127.0.0.1:5000": "Set it to http://127.0.0.1:5000.",
    "http://127.0.0.1:5O00": "Port",
    "http://": "Expected one of http://HOST:PORT",
    "http://ml flow:5000": "a space in it",
    "http://127.0.0.1:5000/ ": "Set it to http://127.0.0.1:5000/.",
    '"http://127.0.0.1:5000"': "Set it to http://127.0.0.1:5000.",
    "'sqlite:///mlflow.db'": "Set it to sqlite:///mlflow.db.",
    " \n": "spaces or quotes",
    "postgres://anna@db/mlflow": "Set it to postgresql://db/mlflow.",
    "postgresql://db:5432x/mlflow": "Port",
    "databricks": "no MLflow of the kind databricks",
    "databricks://profile": "no MLflow of the kind databricks",
    "databricks-uc": "no MLflow of the kind databricks-uc",
    "htpp://mlflow:5000": "no MLflow of the kind htpp",
    "s3://bucket/mlflow": "no MLflow of the kind s3",
    "file:///tmp/mlruns": "no longer keeps runs in directories",
    "mlruns": "no longer keeps runs in directories",
    "/tmp/mlruns": "no longer keeps runs in directories",
}


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
@pytest.mark.parametrize(("given", "told"), WRONG.items())
def test_what_was_meant_is_said(variable: str, given: str, told: str, no_mlflow: pytest.MonkeyPatch) -> None:
    no_mlflow.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    no_mlflow.setenv(variable, given)
    with pytest.raises(UsageError) as caught:
        tracking.connect()
    assert str(caught.value).startswith(f"{variable} is ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["http://anna:secret@mlflow:5000/#/", "mysql+pymysql://anna:secret@db:x/mlflow"])
def test_a_password_is_not_repeated(given: str, no_mlflow: pytest.MonkeyPatch) -> None:
    no_mlflow.setenv("MLFLOW_TRACKING_URI", given)
    with pytest.raises(UsageError) as caught:
        tracking.connect()
    assert "secret" not in str(caught.value)
