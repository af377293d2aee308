"""Versions to promote, quickly registered, and what the commands say about them."""

from collections.abc import Callable
from typing import Any

from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.promote.challenge import Asked, Outcome, challenge

ALIAS = "champion"

Make = Callable[..., RegisteredModel]


def maker(
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> Make:
    """Registers a version with an AUROC: `make(0.8)`."""

    def make(auroc: float, candidate: str = "vgg16", **protocol: Any) -> RegisteredModel:
        model = make_model(candidate, weights=f"{candidate} {auroc}".encode(), candidate=candidate)
        evaluation = make_evaluation(model, auroc, protocol or None, test_digest="7e" * 32)
        return register_hollow("mura", model, evaluation, make_tracked())

    return make


def put(challenger: RegisteredModel, **asked: Any) -> Outcome:
    """Put a version to the champion."""
    return challenge(challenger, ALIAS, Asked(**asked))
