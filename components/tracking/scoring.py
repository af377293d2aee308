"""What MLflow's scoring server is told of a wrong request."""

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE


def refusal(reason: str) -> Exception:
    """An error that MLflow's scoring server answers with 400 and the reason.

    Args:
        reason: a line that says what was expected and what came.
    """
    error: Exception = MlflowException(reason, error_code=INVALID_PARAMETER_VALUE)
    return error
