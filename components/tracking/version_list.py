"""All versions of a registered model."""

from datetime import UTC, datetime
from typing import NamedTuple

from mlflow.entities.model_registry import ModelVersion

from components import tracking
from components.artifacts.registration import RegisteredModel
from components.base.errors import UsageError
from components.tracking import failures, model_registry

_MOST = 200  # in one answer


class Listed(NamedTuple):
    """One version."""

    number: int
    model: RegisteredModel | None
    """None if this pipeline did not register it, or its facts cannot be read."""
    aliases: tuple[str, ...]
    when: str
    """It was registered: UTC, ISO 8601."""


@failures.patient
def versions(name: str) -> list[Listed]:
    """The versions of a registered model, lowest number first; none if there is no such model.

    Raises:
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
    return [
        Listed(
            number := int(each.version),
            _facts(name, number),
            aliases.get(number, ()),
            datetime.fromtimestamp(each.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        )
        for each in found
    ]


def _facts(name: str, number: int) -> RegisteredModel | None:
    try:
        return model_registry.version(name, number)
    except UsageError:
        return None
