"""Class activation maps: what each place of a picture adds to its logit (Zhou et al., arXiv:1512.04150).

All four networks end in the mean over their last feature maps f, dropout and one linear unit, so

    logit = bias + sum over c of w_c mean over y, x of f_cyx = bias + mean over y, x of (sum over c of w_c f_cyx)

The map is what stands in the last brackets. It is exact: its mean plus the bias is the logit. An ensemble and mirror
images are means of such logits, and their maps are the same means: with each network's slope, and mirror images
mirrored back. A map tells what the network used. It is no localisation: it can miss a finding that the network used,
and show a place where there is none.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from components.network.combining import Part
from components.network.features import flat, with_features_and_given


class Answer(NamedTuple):
    """What a network says of pictures, as tensors."""

    logit: Any
    """float32 [B, 1]"""
    map: Any
    """float32 [B, h, w]"""
    features: Any
    """float32 [B, D], as of `features.with_features`"""


def with_map(network: keras.Model, flips: bool = False) -> Callable[[Any], Answer]:
    """A function that gives a network's logits, maps and features, in one pass.

    Args:
        network: from pixels [B, S, S, 1] to the logit [B, 1]: one of the four, or `combining.combine` of them.
        flips: whether the logit is the mean of those of the image and its mirror image. A combination has its own
            choice of that inside.

    Returns:
        Takes pixels, float32 [B, S, S, 1] in [0, 255]. Where networks of an ensemble have grids of different sizes,
        each map is interpolated to the finest, and keeps its mean.

    Raises:
        ValueError: the network does not end in a mean over feature maps and one linear unit.
    """
    parts, flipped = _taken_apart(network)
    answers = [_answer(part) for part in parts]

    def asked(pixels: Any) -> Answer:
        mirrored = flips or flipped
        # As one batch: a network is in the graph once.
        seen = tf.concat([pixels, tf.reverse(pixels, [2])], axis=0) if mirrored else pixels
        found = [each(seen) for each in answers]
        finest = [max(int(each.map.shape[axis]) for each in found) for axis in (1, 2)]
        logit = tf.add_n([each.logit for each in found]) / len(found)
        cells = tf.add_n([_resized(each.map, *finest) for each in found]) / len(found)
        features = tf.concat([each.features for each in found], axis=1)
        if mirrored:
            # [2 B, ...]: first the images, then their mirror images.
            logit = tf.add_n(tf.split(logit, 2)) / 2
            plain, turned = tf.split(cells, 2)
            cells = (plain + tf.reverse(turned, [2])) / 2
            features = tf.split(features, 2)[0]
        return Answer(logit, cells, features)

    return asked


def _taken_apart(network: keras.Model) -> tuple[list[Part], bool]:
    """The networks of `combine`, and whether they are asked about the mirror image, too. One network is its own."""
    members = [each for each in network.layers if isinstance(each, keras.Model)]
    names = [each.name.removeprefix("member_") for each in members if each.name.startswith("member_")]
    if not names:
        return [Part("network", network, 0.0, 1.0)], False
    lines = {name: network.get_layer(f"line_{name}") for name in names}
    parts = [
        Part(name, network.get_layer(f"member_{name}"), float(line.offset), float(line.scale))
        for name, line in lines.items()
    ]
    return parts, any(type(each).__name__ == "Flip" for each in network.operations)


def _answer(part: Part) -> Callable[[Any], Answer]:
    """One network's line of its logit, its map with the same slope, and its features."""
    network = flat(part.network)
    unit, mean = _end(network)
    whole = with_features_and_given(network, mean)

    def asked(pixels: Any) -> Answer:
        logit, features, maps = whole(pixels, training=False)  # maps: [B, h, w, C]
        cells = tf.reduce_sum(maps * tf.reshape(unit.kernel, [-1]), axis=3)
        return Answer(part.intercept + part.slope * logit, part.slope * cells, features)

    return asked


def _end(network: keras.Model) -> tuple[layers.Dense, layers.GlobalAveragePooling2D]:
    """The linear unit of a network, and the layer of the mean over feature maps that it is given."""
    unit, given = _made_by(network.outputs[0])
    if not isinstance(unit, layers.Dense) or unit.units != 1:
        raise ValueError(f"expected a network that ends in one linear unit, found {type(unit).__name__}")
    made, given = _made_by(given)
    if isinstance(made, layers.Dropout):
        made, _ = _made_by(given)
    if not isinstance(made, layers.GlobalAveragePooling2D):
        raise ValueError(f"expected the mean over feature maps before the linear unit, found {type(made).__name__}")
    return unit, made


def _made_by(x: keras.KerasTensor) -> tuple[Any, keras.KerasTensor]:
    """The operation that a tensor comes from, and the first tensor that it is given."""
    history = x._keras_history
    return history.operation, history.operation._inbound_nodes[history.node_index].input_tensors[0]


def _resized(cells: Any, height: int, width: int) -> Any:
    """A map on a finer grid, with the same mean."""
    if (cells.shape[1], cells.shape[2]) == (height, width):
        return cells
    rows, columns = _interpolation(height, int(cells.shape[1])), _interpolation(width, int(cells.shape[2]))
    finer = tf.einsum("ij,bjk,lk->bil", rows, cells, columns)
    return finer + tf.reduce_mean(cells, [1, 2], keepdims=True) - tf.reduce_mean(finer, [1, 2], keepdims=True)


def _interpolation(fine: int, coarse: int) -> NDArray[np.float32]:
    """Weights of linear interpolation between the middles of cells, float32 [fine, coarse]."""
    place = np.clip((np.arange(fine) + 0.5) * coarse / fine - 0.5, 0, coarse - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(coarse))), np.float32)
