"""Versions as they were registered before there was a gate: unsigned, with their facts in a tag."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from components import tracking
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrainedModel
from components.tracking import evidence_files, model_registry

WITH_THE_GATE = ("min_patients", "min_sensitivity", "max_calibration_excess")


def as_before(evaluation: Evaluation, path: Path) -> Evaluation:
    """An evaluation as an older version of this program made it."""
    shutil.copytree(evaluation.path, path)
    (path / Evaluation.CARD).unlink()
    rules = {name: value for name, value in evaluation.facts.protocol.items() if name not in WITH_THE_GATE}
    return Evaluation.seal(path, evaluation.facts.model_copy(update={"protocol": rules}))


def register_as_before(model: TrainedModel, evaluation: Evaluation, change: Callable[[str], str] = str) -> int:
    """Register a version of `mura` as it was done before there was a gate.

    Args:
        model: of `make_tracked`.
        evaluation: of the model.
        change: what somebody did to the text of the tag.

    Returns:
        The number of the version.
    """
    client, run = tracking.connect(), model.facts.run
    if not client.search_registered_models("name = 'mura'"):
        client.create_registered_model("mura")
    facts = evidence_files.facts(model, evaluation, "mura", run.run_id)
    tags = model_registry.tags_of_version(facts)
    said = change(facts.model_dump_json(exclude={"version", "gate"}))
    assert "gate" not in json.loads(said)
    tags[model_registry.FACTS] = said
    model_id = run.model_uri.removeprefix("models:/")
    made = client.create_model_version("mura", source=run.model_uri, run_id=run.run_id, tags=tags, model_id=model_id)
    return int(made.version)
