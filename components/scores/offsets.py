"""By how much the weights of the loss shift a network's logits, by body part.

The loss multiplies the cross-entropy of an abnormal image by w1 and that of a normal one by w0. A network that
minimises it for images with the share p of abnormal ones answers q, where w1 p (1 - q) = w0 (1 - p) q. So

    logit q = logit p + log(w1 / w0)

With A abnormal and N normal training images of a body part, `batches.loss_weights` gives w1 = N / (A + N) and
w0 = A / (A + N). So the logits of that part are too high by o = log(N / A). It is known before anything is measured,
and one temperature or one pair of Platt's parameters cannot undo it, because each part has another one. The correction
for a known prior is that of King & Zeng 2001 (section 4.1) and Saerens et al. 2002.
"""

import math
from collections.abc import Mapping

import numpy as np

from components.artifacts.shards import PartFacts
from components.artifacts.trained_model import Offsets
from components.scores.studies import Array


def of_training(train_images: Mapping[str, PartFacts], class_weighting: str) -> Offsets:
    """The offsets of a training.

    Args:
        train_images: counts of the training split, by body part.
        class_weighting: `body_part`, or `none`: then every offset is 0.

    Returns:
        Offsets of the body parts that train the network. With `body_part` those are the parts that have images of both
        labels: the others weigh nothing in the loss. The pooled offset is that of all these images together.
    """
    if class_weighting == "none":
        return Offsets(body_part=dict.fromkeys(train_images, 0.0), pooled=0.0)
    counted = {name: part for name, part in train_images.items() if part.normal and part.abnormal}
    if not counted:
        return Offsets(body_part={}, pooled=0.0)
    normal, abnormal = (sum(getattr(part, name) for part in counted.values()) for name in ("normal", "abnormal"))
    return Offsets(
        body_part={name: math.log(part.normal / part.abnormal) for name, part in counted.items()},
        pooled=math.log(normal / abnormal),
    )


def of_studies(offsets: Offsets, body_part: Array) -> Array:
    """The offset of each study, float64 [S]. A body part that is not among them has the pooled one.

    Args:
        offsets: of a model's card.
        body_part: str [S].
    """
    distinct, index = np.unique(body_part, return_inverse=True)
    known = [offsets.body_part.get(str(part), offsets.pooled) for part in distinct]
    return np.array(known, np.float64)[index]


def unknown(offsets: Offsets, body_part: Array) -> tuple[str, ...]:
    """The body parts of studies that have the pooled offset, because they did not train the network, ascending."""
    return tuple(part for part in np.unique(body_part).tolist() if part not in offsets.body_part)
