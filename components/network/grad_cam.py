"""Where in a picture a network finds what it calls abnormal: HiResCAM, and Grad-CAM to compare with.

The map of Draelos & Carin (arXiv:2011.08891): the sum of the channels of a convolutional layer, each cell multiplied
with the logit's gradient there; what is negative counts as 0. Grad-CAM (Selvaraju et al., arXiv:1610.02391) takes the
mean of the gradient over a channel instead. A map tells what the network used. It is no localisation: it can miss a
finding that the network used, and show a place where there is none.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from components.network.architectures import BACKBONE

MIN_CELLS = 24
"""Cells on a side that a map must have. A later layer knows more, and has forgotten where: the last map of Inception V3
is 1 x 1 at 64 pixels, and that of the custom CNN, 10 x 10 at 160, points beside the findings (benchmarks/explain.py).
"""
BATCH_SIZE = 32

Method = Literal["hires_cam", "grad_cam"]
Array = NDArray[np.float32]


class Cells(NamedTuple):
    """Where the cells of a map lie in the picture, the same down and across."""

    first: float
    """Middle of the first one, pixels; 0 is the middle of the first pixel."""
    step: float
    """From one to the next, pixels."""


PIXELS = Cells(0.0, 1.0)


class GradCam:
    """A network, cut in two at the layer whose map explains its logit.

    The layer is the last one with at least `min_cells` x `min_cells` cells that all later ones see the picture through:
    no branch of a residual or Inception block leads past it. Where no layer has so many, it is the last of the largest.
    """

    def __init__(self, network: keras.Model, min_cells: int = MIN_CELLS, flips: bool = False) -> None:
        """Choose the layer.

        Args:
            network: as `architectures.load` gives it, from pixels to logit, in float32.
            min_cells: on a side of the map. With 1 the map is the last one, and where the mean over it is followed by
                the logit alone, this is the class activation map (Zhou et al., arXiv:1512.04150).
            flips: whether the logit to explain is the mean of those of the image and its mirror image.
        """
        self.flips = flips
        """Whether a map is the mean of that of the image and that of its mirror image, mirrored back."""
        self._size = network.input.shape[1]
        before, inner, after = _parts(network)
        cells = PIXELS if before is None else _places(before, PIXELS)[id(before.outputs[0])]
        places = _places(inner, cells)
        tensors = [each for each in cuts(inner) if len(each.shape) == 4]
        enough = min(min_cells, max(min(each.shape[1:3]) for each in tensors))
        chosen = [each for each in tensors if min(each.shape[1:3]) >= enough][-1]
        self.layer = str(chosen._keras_history.operation.name)
        """Name of the layer."""
        self.shape = (int(chosen.shape[1]), int(chosen.shape[2]))
        """Rows and columns of the map."""
        self.cells: Cells = places[id(chosen)]
        """Where they lie in the picture."""
        self._front = [each for each in (before, keras.Function(inner.inputs[0], chosen)) if each is not None]
        self._rear = [each for each in (keras.Function(chosen, inner.outputs[0]), after) if each is not None]
        # As a graph: the gradients for filters, which nobody asks for, are left out.
        pictures = tf.TensorSpec((None, *network.input.shape[1:]), tf.uint8)
        self._graphs = {each: tf.function(partial(self._cells, method=each), [pictures]) for each in get_args(Method)}

    def maps(self, pixels: NDArray[np.uint8], method: Method = "hires_cam", batch_size: int = BATCH_SIZE) -> Array:
        """Compute the maps of pictures. The same pictures give the same maps.

        Args:
            pixels: uint8 [N, S, S, 1].
            method: how the gradient weighs the channels.
            batch_size: pictures at once.

        Returns:
            float32 [N, S, S], not negative: how much each place speaks for abnormal. Maps of a network have one scale.
        """
        found = self._of_images(pixels, method, batch_size)
        if self.flips:
            # In memory order: the bytes are handed to TensorFlow.
            mirrored = self._of_images(np.ascontiguousarray(pixels[:, :, ::-1]), method, batch_size)
            found = np.asarray((found + mirrored[:, :, ::-1]) / 2, np.float32)
        return found

    def _of_images(self, pixels: NDArray[np.uint8], method: Method, batch_size: int) -> Array:
        """The maps of pictures as they are, float32 [N, S, S]."""
        cells = [
            self._graphs[method](tf.constant(pixels[start : start + batch_size])).numpy()
            for start in range(0, len(pixels), batch_size)
        ]
        small = np.concatenate([np.zeros((0, *self.shape), np.float32), *cells])
        rows, columns = (_interpolation(self._size, count, self.cells) for count in self.shape)
        return np.asarray(rows @ small @ columns.T, np.float32)

    def _cells(self, pixels: Any, method: Method) -> Any:
        """The maps, float32 [B, h, w], from pixels uint8 [B, S, S, 1]."""
        channels = tf.cast(pixels, tf.float32)
        for part in self._front:
            channels = part(channels)  # [B, h, w, C]
        with tf.GradientTape() as tape:
            tape.watch(channels)
            x = channels
            for part in self._rear:
                x = part(x)
            # Pictures do not influence each other, so the gradient of the sum is each one's own.
            logit = tf.reduce_sum(x)
        gradient = tape.gradient(logit, channels)
        if method == "grad_cam":
            gradient = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(gradient * channels, axis=-1))


def _parts(network: keras.Model) -> tuple[keras.Function | None, keras.Function, keras.Function | None]:
    """The network as up to three graphs: before the backbone, the backbone, and after it; or all in one."""
    found = [node for node in nodes(network) if node.operation.name == BACKBONE]
    if not found:
        return None, network, None
    (node,) = found
    before = keras.Function(network.inputs[0], node.input_tensors[0])
    return before, node.operation, keras.Function(node.outputs[0], network.outputs[0])


def nodes(graph: keras.Function) -> Iterator[Any]:
    """Its nodes, each after those that it needs."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from (node for node in graph._nodes_by_depth[depth] if not node.is_input)


def cuts(graph: keras.Function) -> Iterator[keras.KerasTensor]:
    """The tensors from the first convolution on behind which nothing else of what was before is used."""
    every = list(nodes(graph))
    last_use = {id(each): number for number, node in enumerate(every) for each in node.input_tensors}
    open_until, convolved = -1, False
    for number, node in enumerate(every):
        convolved = convolved or isinstance(node.operation, layers.Conv2D)
        open_until = max([open_until, *(last_use[id(each)] for each in node.input_tensors)])
        if convolved and open_until == number and len(node.outputs) == 1:
            yield node.outputs[0]
        open_until = max([open_until, *(last_use.get(id(each), number) for each in node.outputs)])


def _places(graph: keras.Function, first: Cells) -> dict[int, Cells]:
    """Where the cells of each tensor lie in the picture, by the tensor's id.

    A cell lies in the middle of the pixels that it is computed from. Without this, the maps of Inception V3, whose
    convolutions have no padding, would be off by a tenth of the picture at its edges.
    """
    places = {id(each): first for each in graph.inputs}
    for node in nodes(graph):
        given = [places[id(each)] for each in node.input_tensors]
        # Branches that meet have one step. Their middles may differ by half of one.
        cells = Cells(sum(each.first for each in given) / len(given), given[0].step)
        cells = _moved(node.operation, cells, node.input_tensors[0].shape)
        places |= {id(each): cells for each in node.outputs}
    return places


def _moved(layer: Any, cells: Cells, shape: tuple[int | None, ...]) -> Cells:
    """Where a layer's cells lie, from where those lie that it is given."""
    if isinstance(layer, layers.Resizing):
        ratio = int(shape[1] or 0) / layer.height
        return Cells(cells.first + cells.step * (ratio - 1) / 2, cells.step * ratio)
    if isinstance(layer, layers.Conv2D):
        kernel, stride = layer.kernel_size[0], layer.strides[0]
    elif isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
        kernel, stride = layer.pool_size[0], layer.strides[0]
    else:
        return cells
    before = 0
    if layer.padding == "same":
        size = int(shape[1] or 0)
        before = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) // 2
    return Cells(cells.first + cells.step * ((kernel - 1) / 2 - before), cells.step * stride)


def _interpolation(size: int, count: int, cells: Cells) -> Array:
    """Weights of linear interpolation from cells to pixels, float32 [size, count]; outer cells reach to the edge."""
    place = np.clip((np.arange(size) - cells.first) / cells.step, 0, count - 1)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count)))
    return np.asarray(weights, np.float32)
