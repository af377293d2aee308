"""`mura verify` finds the artifacts of a version where DVC's stages put them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import ENSEMBLE, Member, TrackedRun, TrainedModel

Mura = Callable[..., tuple[int, str, str]]

MEMBER = Member(
    candidate="vgg19", architecture="vgg19", params={}, seed=1, parameters=10, model_digest="0" * 64,
    evaluation_digest="e" * 64, intercept=0.1, slope=1.0,
)  # fmt: skip
JOINED: dict[str, Any] = {"members": (MEMBER,), "seed": None, "epochs": 0, "best_epoch": 0, "phases": (), "tuning": {}}


@pytest.mark.long
@pytest.mark.parametrize(
    ("candidate", "architecture", "folder"),
    [("mean", ENSEMBLE, ENSEMBLE), (ENSEMBLE, ENSEMBLE, ENSEMBLE), (ENSEMBLE, "vgg16", "")],
)
def test_ensembles_are_known_by_their_architecture(  # Parameters: fixtures, and what is tried
    candidate: str,
    architecture: str,
    folder: str,
    mlflow_here: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., Any],
    run_mura: Mura,
) -> None:
    known = JOINED if architecture == ENSEMBLE else {}
    model = make_model(architecture, candidate=candidate, **known)
    evaluation = make_evaluation(model, 0.8)
    register_hollow("mura", model, evaluation, make_tracked())
    place = mlflow_here / "artifacts"
    made: dict[str, Artifact[Any]] = {"model": model, "evaluation": evaluation}
    for kind, artifact in made.items():
        shutil.copytree(artifact.path, place / folder / kind / candidate)
    words = ("verify", "models:/mura/1", "--artifacts", str(place), "--json")
    assert states(run_mura(*words)[1]) == {"model": "ok", "evaluation": "ok"}
    (place / folder / "model" / candidate / "model.weights.h5").write_bytes(b"damaged")
    assert states(run_mura(*words)[1]) == {"model": "broken", "evaluation": "ok"}


def states(out: str) -> dict[str, str]:
    """Of the links that are the candidate's own."""
    return {each["link"]: each["state"] for each in json.loads(out)["links"] if each["link"] in ("model", "evaluation")}
