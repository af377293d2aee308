"""MLflow's settings in the environment: our defaults, what is honoured, what is overruled.

MLflow reads some of them while it is imported, so this module is imported before it, and does not import it.
"""

import os
from collections.abc import Mapping

# The user's own settings take precedence.
DEFAULTS: Mapping[str, str] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Otherwise saving a model asks a package index for the installed versions.
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    # MLflow's defaults, 7 retries of 120 s, need more than three minutes to report a refused connection.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Otherwise a server before S3 offers addresses of the store in place of the files. They are signed for the name
    # that the server knows the store by; a client that does not know it waits many minutes for nobody.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}
# What says where records go, and how patiently they are sent, is honoured. What changes the records is not.
OVERRULED: Mapping[str, tuple[str, str]] = {
    "MLFLOW_ENABLE_ASYNC_LOGGING": ("false", "otherwise metrics count as delivered before they are"),
    "MLFLOW_LOCK_MODEL_DEPENDENCIES": ("false", "otherwise models name packages that were not used"),
    "MLFLOW_TRUNCATE_LONG_VALUES": ("true", "otherwise a long parameter ends a training"),
}
"""By name: our value, and why."""

overruled: dict[str, str] = {}
"""What the environment said before `apply` overruled it."""


def apply() -> None:
    """Set the defaults, and overrule what changes the records. Doing it again is harmless."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name, (ours, _) in OVERRULED.items():
        given = os.environ.get(name)
        if given is None:
            overruled.pop(name, None)
        elif given.strip().lower() not in (ours, "1" if ours == "true" else "0"):
            overruled[name] = given
            os.environ[name] = ours
