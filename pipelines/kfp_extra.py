"""The optional packages of the extra `pipelines`."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from components.base.errors import UsageError

_PACKAGES = ("kfp", "kfp_server_api", "docker")


@contextmanager
def needs_kfp() -> Iterator[None]:
    """Import and use kfp inside. Its warnings are muted: what is wrong with a pipeline, it raises.

    Raises:
        UsageError: kfp, or a package that it needs, is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _PACKAGES:
                raise
            raise UsageError(
                f"{error.name} is not installed; Kubeflow Pipelines needs it. "
                "Install it with: pip install 'mura-pipeline[pipelines]' (in a checkout: make setup)."
            ) from error
