"""One Keras model of several: pixels to the mean of their logits, of the image and its mirror image.

Everything in it is Keras' own, so whoever loads the model from MLflow needs Keras alone. The mean over networks and
flips is

    z = mean over m, f of a_m + b_m z_mf

with a_m and b_m of each network's calibration. Without them the network of the largest logits would decide: a slope
makes those of all comparable. The mean of log odds is the logarithmic opinion pool of equal weights (Genest & Zidek,
Statistical Science 1986).
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import layers


class Part(NamedTuple):
    """A network, and how its logit counts."""

    name: str
    network: keras.Model
    """From pixels [B, S, S, 1] to a logit [B, 1]."""
    intercept: float
    slope: float


def combine(name: str, parts: Sequence[Part], flips: bool) -> keras.Model:
    """The mean of networks.

    Args:
        name: of the model.
        parts: at least one, with names of their own.
        flips: whether each network is asked about the mirror image, too.

    Returns:
        A model from pixels, [B, S, S, 1] in [0, 255], to the mean, float32 [B, 1].
    """
    pixels = keras.Input(parts[0].network.input.shape[1:], name="pixels")  # [B, S, S, 1]
    seen = [pixels, keras.ops.flip(pixels, axis=2)] if flips else [pixels]
    logits = []
    for part in parts:
        # Keras wants names of their own, and two networks of one architecture have one name.
        network = keras.Model(part.network.inputs[0], part.network.outputs[0], name=f"member_{part.name}")
        logit = _mean([network(each) for each in seen])
        logits.append(layers.Rescaling(part.slope, offset=part.intercept, name=f"line_{part.name}")(logit))
    return keras.Model(pixels, _mean(logits), name=name)


def flipped(network: keras.Model) -> keras.Model:
    """A network whose logit is the mean of those of the image and its mirror image."""
    return combine(network.name, [Part("network", network, 0.0, 1.0)], flips=True)


def _mean(logits: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    return layers.Average()(list(logits)) if len(logits) > 1 else logits[0]
