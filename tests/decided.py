"""Versions to promote, quickly registered, and what the commands say about them."""

from collections.abc import Callable
from typing import Any

from components.artifacts.registration import RegisteredModel
from components.promote.challenge import Asked, Outcome, challenge

ALIAS = "champion"

Make = Callable[..., RegisteredModel]


def put(challenger: RegisteredModel, **asked: Any) -> Outcome:
    """Put a version to the champion."""
    return challenge(challenger, ALIAS, Asked(**asked))
