"""Whether a model or an evaluation was made of certain artifacts: it says their digests."""

from collections.abc import Mapping
from typing import Any

from components.artifacts.artifact import Artifact
from components.artifacts.manifest import ValidManifest


def difference(artifact: Artifact[Any], inputs: Mapping[str, Artifact[Any]]) -> str | None:
    """The first input that an artifact was not made of, in a sentence; None if there is none.

    Args:
        artifact: a TrainedModel or an Evaluation.
        inputs: by the names of the step's inputs, such as `shards`.
    """
    for name, given in inputs.items():
        said, found = _digests(artifact, name, given)
        if said != found:
            return (
                f"{artifact.path}: made of other {name} (digest {str(said)[:12]}) than {given.path} (digest "
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
    return getattr(artifact.facts, f"{name}_digest"), given.digest
