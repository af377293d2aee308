"""A network as an ONNX file, for programs that have no TensorFlow."""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import keras
import onnx
import tensorflow as tf
from onnx import compose, helper

from components.network.activation_map import Answer, Apart, apart, with_map_of_one

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from tf2onnx import optimizer, tf_loader, tfonnx

OPSET = 18
"""The newest that tf2onnx writes."""
OUTPUTS = Answer._fields  # logit, map, features
KEPT = 8
"""Converted networks that are kept for the ensembles that they are members of, at most 100 MB each."""
_kept: dict[bytes, onnx.ModelProto] = {}


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
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    whole = apart(network, flips)
    # Each network by itself: the time of tf2onnx grows faster than the graph.
    members = [_member(part.network) for part in whole.parts]
    return _named(_joined(whole, members, network.inputs[0].shape[1:]))


def _member(network: keras.Model) -> onnx.ModelProto:
    """One network: from `seen`, float32 [N, S, S, 1], to its answer."""
    digest = _digest(network)
    if digest not in _kept:
        if len(_kept) == KEPT:
            del _kept[next(iter(_kept))]
        asked = with_map_of_one(network)
        _kept[digest] = _converted(lambda seen: asked(seen)._asdict(), seen=_batch(network.inputs[0].shape[1:]))
    return _kept[digest]


def _digest(network: keras.Model) -> bytes:
    """Of its layers and weights, whatever they are named."""
    digest = hashlib.sha256(json.dumps(_nameless(network.get_config(), {})).encode())
    for weight in network.weights:
        digest.update(weight.numpy().tobytes())
    return digest.digest()


def _nameless(config: Any, names: dict[str, int]) -> Any:
    """A configuration of Keras with numbers in place of the names of layers, which differ between processes."""
    if isinstance(config, dict):
        if isinstance(name := config.get("name"), str):
            names.setdefault(name, len(names))
        return {key: _nameless(value, names) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [_nameless(each, names) for each in config]
    return names.get(config, config) if isinstance(config, str) else config


def _joined(whole: Apart, members: Sequence[onnx.ModelProto], shape: Sequence[int]) -> onnx.ModelProto:
    """One graph: what is asked of each network, the networks, and the answer of all."""

    def asked(pixels: Any) -> dict[str, Any]:
        return {"seen": whole.seen(tf.cast(pixels, tf.float32))}

    def answered(**found: Any) -> dict[str, Any]:
        return whole.joined([Answer(*(found[f"{name}{n}"] for name in OUTPUTS)) for n in numbers])._asdict()

    numbers = range(len(members))
    answers = {
        f"{output.name}{n}": _batch([axis.dim_value for axis in output.type.tensor_type.shape.dim[1:]])
        for n in numbers
        for output in members[n].graph.output
    }
    before = _prefixed(_converted(asked, pixels=_batch(shape, tf.uint8)), "before/", rename_inputs=False)
    networks = reduce(_beside, (_prefixed(member, f"{n}/") for n, member in enumerate(members)))
    after = _prefixed(_converted(answered, **answers), "after/", rename_outputs=False)
    graph = compose.merge_graphs(before, networks, [("before/seen", f"{n}/seen") for n in numbers])
    pairs = [(f"{n}/{name}", f"after/{name}{n}") for n in numbers for name in OUTPUTS]
    graph = compose.merge_graphs(graph, after, pairs, name="network", doc_string="")
    first = members[0]
    return helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)


def _prefixed(model: onnx.ModelProto, prefix: str, **choices: bool) -> onnx.GraphProto:
    return compose.add_prefix_graph(model.graph, prefix, **choices)


def _beside(one: onnx.GraphProto, other: onnx.GraphProto) -> onnx.GraphProto:
    return compose.merge_graphs(one, other, [])


def _batch(shape: Sequence[int], dtype: tf.DType = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec((None, *shape), dtype)


def _converted(function: Callable[..., dict[str, Any]], **given: tf.TensorSpec) -> onnx.ModelProto:
    """What `tf2onnx.convert.from_function` does, without a copy of the graph for each of fifty passes over it."""
    concrete = tf.function(function, autograph=False).get_concrete_function(
        **{name: tf.TensorSpec(each.shape, each.dtype, name) for name, each in given.items()}
    )
    inputs = {f"{name}:0": name for name in given}
    outputs = {tensor.name: name for name, tensor in concrete.structured_outputs.items()}
    frozen = tf_loader.from_function(concrete, list(inputs), list(outputs))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
        converted = tfonnx.process_tf_graph(
            graph,
            opset=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            tensors_to_rename=inputs | outputs,
        )
        return optimizer.optimize_graph(converted, catch_errors=False).make_model("network")


def _named(model: onnx.ModelProto) -> bytes:
    """The bytes of a model with an order and names of its own: tf2onnx's differ between processes."""
    graph = model.graph
    nodes, weights = _ordered(graph)
    names = {each.name: each.name for each in (*graph.input, *graph.output)}
    for number, node in enumerate(nodes):
        for each in (*node.input, *node.output):
            names.setdefault(each, f"t{len(names)}" if each else "")
        node.name = f"{node.op_type}{number}"
        node.input[:], node.output[:] = ([names[each] for each in some] for some in (node.input, node.output))
    for each in weights:
        each.name = names[each.name]
    weights.sort(key=lambda each: int(each.name[1:]))
    for part, found in ((graph.value_info, []), (graph.node, nodes), (graph.initializer, weights)):
        del part[:]
        part.extend(found)
    for each in (*graph.input, *graph.output):
        each.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _ordered(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Its nodes, each after those that it needs, and its weights.

    Of several that give the same there is one: tf2onnx merges some of them, and not the same in each process.
    """
    same: dict[str, str] = {}
    weights: dict[bytes, onnx.TensorProto] = {}
    nodes: dict[bytes, onnx.NodeProto] = {}
    for weight in graph.initializer:
        same[weight.name] = weights.setdefault(_without(weight, "name"), weight).name
    outputs = {each.name for each in graph.output}
    for node in _from_outputs(graph):
        node.input[:] = [same.get(each, each) for each in node.input]
        unnamed = ("name",) if outputs & {*node.output} else ("name", "output")
        same |= zip(node.output, nodes.setdefault(_without(node, *unnamed), node).output, strict=True)
    return list(nodes.values()), list(weights.values())


def _without(part: Any, *fields: str) -> bytes:
    """The bytes of a node or of a weight without some of its fields."""
    copy = type(part)()
    copy.CopyFrom(part)
    for field in fields:
        copy.ClearField(field)
    content: bytes = copy.SerializeToString(deterministic=True)
    return content


def _from_outputs(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes in an order that the outputs alone decide, each after those that it needs."""
    made_by = {output: node for node in graph.node for output in node.output}
    ordered: dict[str, onnx.NodeProto] = {}  # by first output
    waiting = [made_by[each.name] for each in reversed(graph.output)]
    while waiting:
        node = waiting[-1]
        needed = [made_by[each] for each in node.input if each in made_by and made_by[each].output[0] not in ordered]
        if needed:
            waiting.extend(reversed(needed))
        else:
            ordered.setdefault(node.output[0], waiting.pop())
    return list(ordered.values())
