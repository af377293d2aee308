"""A network as an ONNX file, for programs that have no TensorFlow."""

import logging
import warnings
from typing import Any

import keras
import onnx
import tensorflow as tf

from components.network.activation_map import with_map

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from tf2onnx import optimizer, tf_loader, tfonnx

OPSET = 18
"""The newest that tf2onnx writes."""
INPUT = "pixels"
OUTPUTS = ("logit", "map", "features")


def content(network: keras.Model, flips: bool = False) -> bytes:
    """The bytes of the file. The same weights give the same bytes.

    Its input is `pixels`, uint8 [N, S, S, 1]; its outputs are `logit`, float32 [N, 1], `map`, float32 [N, h, w], and
    `features`, float32 [N, D]. ONNX Runtime computes no more than what is asked for.

    Args:
        network: from pixels, [B, S, S, 1] in [0, 255], to the logit [B, 1], in float32.
        flips: whether the logit is the mean of those of the image and its mirror image.

    Raises:
        ValueError: the network has no class activation map.
    """
    asked = with_map(network, flips)
    wanted = tf.TensorSpec((None, *network.inputs[0].shape[1:]), tf.uint8, name=INPUT)

    def outputs(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return asked(tf.cast(pixels, tf.float32))._asdict()

    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    return _named(_converted(tf.function(outputs, autograph=False).get_concrete_function(wanted)))


def _converted(function: Any) -> onnx.ModelProto:
    """What `tf2onnx.convert.from_function` does, without a copy of the graph for each of fifty passes over it."""
    given = {f"{INPUT}:0": INPUT}
    found = {function.structured_outputs[name].name: name for name in OUTPUTS}
    frozen = tf_loader.from_function(function, list(given), list(found))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
        converted = tfonnx.process_tf_graph(
            graph,
            opset=OPSET,
            input_names=list(given),
            output_names=list(found),
            tensors_to_rename=given | found,
        )
        return optimizer.optimize_graph(converted, catch_errors=False).make_model("network")


def _named(model: onnx.ModelProto) -> bytes:
    """The bytes of a model with names of its own: those of the layers count networks of this process."""
    graph = model.graph
    names = {each.name: each.name for each in (*graph.input, *graph.output)}
    for node in graph.node:
        for each in (*node.input, *node.output):
            names.setdefault(each, f"t{len(names)}" if each else "")
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}{number}"
        node.input[:], node.output[:] = ([names[each] for each in some] for some in (node.input, node.output))
    for each in graph.initializer:
        each.name = names[each.name]
    del graph.value_info[:]
    weights = sorted(graph.initializer, key=lambda each: int(each.name[1:]))
    del graph.initializer[:]
    graph.initializer.extend(weights)
    for each in (*graph.input, *graph.output):
        each.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
