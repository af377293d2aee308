"""What a network sees in a picture on its way to the logit: a summary of its maps at several depths.

A picture that is unlike those of the training differs from them at some depth, if not at the last one (Lee et al.,
arXiv:1807.03888, section 2.2). `components.scores.familiarity` measures how far it is from them.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from components.network.grad_cam import cuts, nodes

CELLS = 3
"""A map is summarised by the means over so many by so many parts of it."""


class Seen(NamedTuple):
    """The shape of the features of one depth; they are rows * channels, row by row."""

    rows: int
    """Parts of the map, and one more for the deviation over all of it, if it has several cells."""
    channels: int


class WithFeatures(NamedTuple):
    """A network that also gives what it saw."""

    model: keras.Model
    """From pixels, [B, S, S, 1] in [0, 255], to the logit, float32 [B, 1], and the features, float32 [B, D]."""
    depths: tuple[Seen, ...]
    """The features of each depth, in their order; they are D together."""

    @property
    def features(self) -> keras.Model:
        """The network without its logit: of a network that is asked about the mirror image too, half the work."""
        return keras.Model(self.model.inputs[0], self.model.outputs[1], name=self.model.name)


class _Summary(layers.Layer):  # type: ignore[misc] # Keras has no types
    """From maps, [B, h, w, C], to the means over parts of them and the deviations over all: [B, rows * C]."""

    def call(self, maps: Any) -> Any:
        """Compute them."""
        rows, columns = (_parts(each) for each in maps.shape[1:3])
        means = [
            ops.mean(maps[:, top:bottom, left:right], axis=(1, 2)) for top, bottom in rows for left, right in columns
        ]
        deviation = [ops.std(maps, axis=(1, 2))] if _deviates(maps.shape) else []
        return _one([*means, *deviation])


def _deviates(shape: tuple[int | None, ...]) -> bool:
    """Whether maps of that shape, [B, h, w, C], have several cells: one cell has no deviation."""
    return shape[1:3] != (1, 1)


def _one(found: list[Any]) -> Any:
    return ops.concatenate(found, axis=-1) if len(found) > 1 else found[0]


def _parts(side: int) -> list[tuple[int, int]]:
    """Where the parts of a side begin and end; fewer than `CELLS` if it is shorter."""
    count = min(CELLS, side)
    edges = [round(number * side / count) for number in range(count + 1)]
    return list(pairwise(edges))


def with_features(network: keras.Model) -> WithFeatures:
    """The same network with a second output. It shares the weights.

    A depth is the last place with maps of one size that all later layers see the picture through. Of each of its
    channels there are the means over 3 x 3 parts of the map, and the standard deviation over all of it. An ensemble
    has the features of all its networks. Where a network is asked about the mirror image too, they are of the image.

    Args:
        network: as `architectures.load` and `stored.load` give it, in float32.
    """
    parts = [each for each in network.layers if _is_network(each)]
    if not parts:
        return _single(network)
    members = {id(each): _single(each) for each in parts}
    seen: dict[int, keras.KerasTensor] = {}

    def call(layer: Any, *given: Any, **named: Any) -> Any:
        if id(layer) not in members:
            return layer(*given, **named)
        logit, found = members[id(layer)].model(*given, **named)
        if given[0] is pixels:
            seen[id(layer)] = found
        return logit

    pixels = keras.Input(network.input.shape[1:], name="pixels")
    logit = _called(network, pixels, call)
    features = _joined([seen[id(each)] for each in parts])
    depths = tuple(depth for each in parts for depth in members[id(each)].depths)
    return WithFeatures(keras.Model(pixels, [logit, features], name=network.name), depths)


def with_features_and_given(network: keras.Model, layer: Any) -> keras.Model:
    """A network with what it saw, and what one of its layers is given, in one pass.

    Args:
        network: without networks in it, as `flat` makes it.
        layer: one of its layers.

    Returns:
        A model from pixels, [B, S, S, 1] in [0, 255], to the logit, float32 [B, 1], the features, float32 [B, D], and
        what the layer is given.
    """
    return _single(network, layer).model


def _single(network: keras.Model, also: Any = None) -> WithFeatures:
    """`with_features` of one network; a third output is what the layer `also` is given."""
    plain = flat(network)
    # The last cut with maps of each size.
    by_size = {each.shape[1:3]: each for each in cuts(plain) if len(each.shape) == 4}
    chosen = {id(each._keras_history.operation) for each in by_size.values()}
    found: list[keras.KerasTensor] = []
    depths: list[Seen] = []
    others: list[keras.KerasTensor] = []

    def call(layer: Any, *given: Any, **named: Any) -> Any:
        made = layer(*given, **named)
        if id(layer) in chosen:
            found.append(_Summary()(made))
            rows = len(_parts(made.shape[1])) * len(_parts(made.shape[2])) + _deviates(made.shape)
            depths.append(Seen(rows, int(made.shape[3])))
        if layer is also:
            others.append(given[0])
        return made

    pixels = keras.Input(network.input.shape[1:], name="pixels")
    logit = _called(plain, pixels, call)
    model = keras.Model(pixels, [logit, _joined(found), *others], name=network.name)
    return WithFeatures(model, tuple(depths))


def _is_network(part: Any) -> bool:
    """Whether a layer is a network from pixels to a logit: a member of an ensemble, not a backbone."""
    return isinstance(part, keras.Model) and part.input.shape[-1] == 1 and part.output.shape[1:] == (1,)


def flat(network: keras.Model) -> keras.Model:
    """The same network without networks in it."""

    def call(layer: Any, *given: Any, **named: Any) -> Any:
        return _called(layer, given[0], call) if isinstance(layer, keras.Model) else layer(*given, **named)

    pixels = keras.Input(network.input.shape[1:], name="pixels")
    return keras.Model(pixels, _called(network, pixels, call))


def _called(graph: keras.Function, given: keras.KerasTensor, call: Callable[..., Any]) -> keras.KerasTensor:
    """The output of a network for another input; `call` calls each of its layers, which stay as they are."""
    tensors = {id(graph.inputs[0]): given}
    for node in nodes(graph):
        # Every layer here has one output.
        words, named = node.arguments.fill_in(tensors)
        tensors[id(node.outputs[0])] = call(node.operation, *words, **named)
    return tensors[id(graph.outputs[0])]


def _joined(features: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Features in one row for each picture; Keras wants two or more to join."""
    return layers.Concatenate()(features) if len(features) > 1 else features[0]
