"""Whether a model or an evaluation was made of certain artifacts: it says their digests."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import ValidManifest
from components.artifacts.trained_model import ENSEMBLE, TrainedModel

Input = Artifact[Any] | Sequence[Artifact[Any]]
"""An input of a step: an artifact, or several."""


def difference(artifact: Artifact[Any], inputs: Mapping[str, Input]) -> str | None:
    """The first input that an artifact was not made of, in a sentence; None if there is none.

    Args:
        artifact: a TrainedModel or an Evaluation.
        inputs: by the names of the step's inputs, such as `shards`.
    """
    for name, given in inputs.items():
        several, word = (given, name.removesuffix("s")) if isinstance(given, Sequence) else ([given], name)
        for each in several:
            said, found = _digests(artifact, word, each)
            if said != found:
                return (
                    f"{artifact.path}: made of other {name} (digest {str(said)[:12]}) than {each.path} (digest "
                    f"{str(found)[:12]})."
                )
    return None


def _digests(artifact: Artifact[Any], name: str, given: Artifact[Any]) -> tuple[Any, Any]:
    """What the artifact says of an input, and what the input is."""
    if isinstance(given, ValidManifest):
        # An evaluation reads images and labels of it, and second opinions.
        opinion = artifact.facts.second_opinion
        one = (artifact.facts.data_digest, opinion and opinion.overlay_digest)
        other = (given.facts.data_digest, given.facts.overlay_digest)
        return next(((a, b) for a, b in zip(one, other, strict=True) if a != b), (one[0], other[0]))
    if artifact.step == ENSEMBLE and isinstance(given, TrainedModel | Evaluation):
        # It names the models and evaluations that it was made of.
        known = (*artifact.facts.members, *artifact.facts.left_out)
        said = {each.candidate: getattr(each, f"{name}_digest") for each in known}
        return said.get(given.facts.candidate), given.digest
    return getattr(artifact.facts, f"{name}_digest"), given.digest
