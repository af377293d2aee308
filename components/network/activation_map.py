"""Class activation maps: what each place of a picture adds to its logit (Zhou et al., arXiv:1512.04150).

All four networks end in the mean over their last feature maps f, dropout and one linear unit, so

    logit = bias + sum over c of w_c mean over y, x of f_cyx = bias + mean over y, x of (sum over c of w_c f_cyx)

The map is what stands in the last brackets. It is exact: its mean plus the bias is the logit. An ensemble and mirror
images are means of such logits, and their maps are the same means: with each network's slope, and mirror images
mirrored back. A map tells what the network used. It is no localisation: it can miss a finding that the network used,
and show a place where there is none.
"""

from collections.abc import Callable, Sequence
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


class Apart(NamedTuple):
    """A network as the networks whose mean it is."""

    parts: list[Part]
    mirrored: bool
    """Whether each of them is asked about the mirror image, too."""

    def seen(self, pixels: Any) -> Any:
        """What each network is asked about: pixels, float32 [B, S, S, 1], and below them their mirror images."""
        # As one batch: a network is in the graph once.
        return tf.concat([pixels, tf.reverse(pixels, [2])], axis=0) if self.mirrored else pixels

    def joined(self, found: Sequence[Answer]) -> Answer:
        """The answer of all, from that of each network to what `seen` gives.

        Where their grids differ in size, each map is interpolated to the finest, and keeps its mean.
        """
        lined = [
            Answer(part.intercept + part.slope * each.logit, part.slope * each.map, each.features)
            for part, each in zip(self.parts, found, strict=True)
        ]
        finest = [max(int(each.map.shape[axis]) for each in lined) for axis in (1, 2)]
        logit = tf.add_n([each.logit for each in lined]) / len(lined)
        cells = tf.add_n([_resized(each.map, *finest) for each in lined]) / len(lined)
        features = tf.concat([each.features for each in lined], axis=1)
        if self.mirrored:
            # [2 B, ...]: first the images, then their mirror images.
            logit = tf.add_n(tf.split(logit, 2)) / 2
            plain, turned = tf.split(cells, 2)
            cells = (plain + tf.reverse(turned, [2])) / 2
            features = tf.split(features, 2)[0]
        return Answer(logit, cells, features)


def with_map(network: keras.Model, flips: bool = False) -> Callable[[Any], Answer]:
    """A function that gives a network's logits, maps and features, in one pass.

    Args:
        network: from pixels [B, S, S, 1] to the logit [B, 1]: one of the four, or `combining.combine` of them.
        flips: whether the logit is the mean of those of the image and its mirror image. A combination has its own
            choice of that inside.

    Returns:
        Takes pixels, float32 [B, S, S, 1] in [0, 255].

    Raises:
        ValueError: the network does not end in a mean over feature maps and one linear unit.
    """
    whole = apart(network, flips)
    answers = [with_map_of_one(part.network) for part in whole.parts]

    def asked(pixels: Any) -> Answer:
        seen = whole.seen(pixels)
        return whole.joined([each(seen) for each in answers])

    return asked


def apart(network: keras.Model, flips: bool = False) -> Apart:
    """The networks of `combine`, and how they count. Any other network is its own only part.

    Args:
        network: as for `with_map`.
        flips: as for `with_map`.
    """
    members = [each for each in network.layers if isinstance(each, keras.Model)]
    names = [each.name.removeprefix("member_") for each in members if each.name.startswith("member_")]
    if not names:
        return Apart([Part("network", network, 0.0, 1.0)], flips)
    lines = {name: network.get_layer(f"line_{name}") for name in names}
    parts = [
        Part(name, network.get_layer(f"member_{name}"), float(line.offset), float(line.scale))
        for name, line in lines.items()
    ]
    return Apart(parts, flips or any(type(each).__name__ == "Flip" for each in network.operations))


def with_map_of_one(network: keras.Model) -> Callable[[Any], Answer]:
    """`with_map` of a network that is no combination.

    Raises:
        ValueError: the network does not end in a mean over feature maps and one linear unit.
    """
    plain = flat(network)
    unit, mean = _end(plain)
    whole = with_features_and_given(plain, mean)

    def asked(pixels: Any) -> Answer:
        logit, features, maps = whole(pixels, training=False)  # maps: [B, h, w, C]
        return Answer(logit, tf.reduce_sum(maps * tf.reshape(unit.kernel, [-1]), axis=3), features)

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
    # No einsum: tf2onnx makes another graph of one in each process.
    finer = tf.matmul(tf.matmul(rows, cells), columns, transpose_b=True)
    return finer + tf.reduce_mean(cells, [1, 2], keepdims=True) - tf.reduce_mean(finer, [1, 2], keepdims=True)


def _interpolation(fine: int, coarse: int) -> NDArray[np.float32]:
    """Weights of linear interpolation between the middles of cells, float32 [fine, coarse]."""
    place = np.clip((np.arange(fine) + 0.5) * coarse / fine - 0.5, 0, coarse - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(coarse))), np.float32)
