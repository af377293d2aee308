"""The shift of the logits is that of the loss's weights."""

import math

import numpy as np
import pytest

from components.artifacts.shards import PartFacts
from components.scores import offsets

COUNTS = {"hand": PartFacts(normal=4059, abnormal=1484), "wrist": PartFacts(normal=400, abnormal=500)}


def test_mura_s_hand_is_shifted_up_by_one_logit() -> None:
    assert offsets.of_training(COUNTS, "body_part").body_part["hand"] == pytest.approx(1.006, abs=1e-3)


def test_a_plain_loss_shifts_nothing() -> None:
    found = offsets.of_training(COUNTS, "none")
    assert (found.body_part, found.pooled) == ({"hand": 0.0, "wrist": 0.0}, 0.0)


def test_a_body_part_with_one_label_weighs_nothing_and_has_the_pooled_offset() -> None:
    found = offsets.of_training(COUNTS | {"elbow": PartFacts(normal=9000, abnormal=0)}, "body_part")
    assert set(found.body_part) == {"hand", "wrist"}
    assert found.pooled == pytest.approx(math.log(4459 / 1984))
    parts = np.array(["wrist", "elbow", "humerus"])
    assert offsets.of_studies(found, parts).tolist() == [found.body_part["wrist"], found.pooled, found.pooled]
    assert offsets.unknown(found, parts) == ("elbow", "humerus")
