"""All versions of a registered model."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from mlflow.entities.model_registry import ModelVersion

from components import tracking
from components.artifacts.registration import RegisteredModel
from components.base.errors import DataRefused
from components.tracking import failures, model_registry

_MOST = 200  # in one answer


class Listed(NamedTuple):
    """One version."""

    number: int
    model: RegisteredModel | None
    """None if this pipeline did not register it, or it is not believed."""
    why: str | None
    """Why there is no model, in a few words."""
    aliases: tuple[str, ...]
    when: str
    """It was registered: UTC, ISO 8601."""


@failures.patient
def versions(name: str) -> list[Listed]:
    """The versions of a registered model, lowest number first; none if there is no such model.

    Raises:
        UsageError: nobody's signatures are trusted here.
        ServiceUnreachable: MLflow does not answer.
    """
    client = tracking.connect()
    found: list[ModelVersion] = []
    token: str | None = None
    with tracking.refusals(f"listing the versions of {name}"):
        while True:
            page = client.search_model_versions(
                f"name = '{name}'", max_results=_MOST, order_by=["version_number ASC"], page_token=token
            )
            found += page
            if not (token := page.token):
                break
    aliases = model_registry.aliases(name)
    return [_listed(name, each, aliases) for each in found]


def _listed(name: str, found: ModelVersion, aliases: Mapping[int, tuple[str, ...]]) -> Listed:
    number = int(found.version)
    when = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
    model, why = _facts(name, number)
    return Listed(number, model, why, aliases.get(number, ()), when)


def _facts(name: str, number: int) -> tuple[RegisteredModel | None, str | None]:
    try:
        found = model_registry.version(name, number)
    except model_registry.NotOurs:
        return None, "not of this pipeline"
    except model_registry.EvidenceLost:
        return None, "its files are lost"
    except DataRefused:
        return None, "not believed: mura verify"
    return found, None if found else "deleted meanwhile"
