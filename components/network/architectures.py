"""The four networks, and ensembles of them: pixels in, logit out; every scaling lives inside."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
from keras import layers, ops
from keras.src.applications import inception_v3, vgg16, vgg19

from components.artifacts.trained_model import TrainedModel
from components.base import surroundings
from components.base.errors import DataRefused, ServiceUnreachable, UsageError, first_line
from components.network import weights_file
from components.network.augmentation import augmentation
from components.network.combining import Part, combine, flipped
from components.params.ensemble import EnsembleParams
from components.params.train import TrainParams

# Where keras.applications downloads weights without the top from.
IMAGENET_ADDRESSES = {
    "vgg16": vgg16.WEIGHTS_PATH_NO_TOP,
    "vgg19": vgg19.WEIGHTS_PATH_NO_TOP,
    "inception_v3": inception_v3.WEIGHTS_PATH_NO_TOP,
}
# The smallest square that Inception V3 accepts: it halves the side five times.
INCEPTION_MIN_SIZE = 75
# Means of ImageNet's channels, in the order blue, green, red. VGG's published weights expect pixels minus these means
# (keras.applications.imagenet_utils, mode "caffe").
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
BACKBONE = "backbone"


def build(
    params: TrainParams,
    image_size: int,
    *,
    seed: int,
    precision: str = "float32",
    augment: bool = True,
    synchronized: bool = False,
) -> keras.Model:
    """Build a network with random weights.

    The augmentation consists of layers of the network: it runs on its device, in training only.

    Args:
        params: architecture, width, augmentation, dropout, momentum, and whether the backbone gets pretrained weights:
            they need pixels scaled as in their own training.
        image_size: side S of the square images, pixels.
        seed: seed of the weights, the augmentation and the dropout.
        precision: a Keras dtype policy; the logit is float32 under any.
        augment: whether the network has the layers of the augmentation. Some of Keras' random layers also act where a
            call does not say `training=False`, so a network for predictions has none.
        synchronized: whether batch normalisation uses the statistics of the whole batch when workers share it.

    Returns:
        A model from pixels, [B, S, S, 1] in [0, 255], to the logit of abnormality, float32 [B, 1].
    """
    keras.utils.set_random_seed(seed)
    with _policy(precision):
        pixels = keras.Input((image_size, image_size, 1), name="pixels")  # [B, S, S, 1]
        x = pixels
        if augment:
            for layer in augmentation(params, seed):
                x = layer(x)
        own = params.architecture == "custom_cnn"
        features = _custom_cnn(x, params.width) if own else _application(params, x, seed)  # [B, C]
        features = layers.Dropout(params.dropout, seed=seed + 2, name="dropout")(features)
        logit = layers.Dense(1, dtype="float32", name="logit")(features)  # [B, 1]
    model = keras.Model(pixels, logit, name=params.architecture)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            # Keras' 0.99 averages over hundreds of steps: after a short training the statistics would still be those
            # of the untrained network.
            layer.momentum = params.batch_norm_momentum
            layer.synchronized = synchronized
    return model


def load(model: TrainedModel, flips: bool = False) -> keras.Model:
    """Rebuild a trained network or an ensemble in float32.

    The architecture is built by code and the weights are numbers, so the file cannot run code.

    Args:
        model: what to load.
        flips: whether the logit is the mean of those of the image and its mirror image. An ensemble has its own choice
            of that on its card, which stays as it is.

    Raises:
        DataRefused: the weights do not belong to the architecture on the card.
    """
    facts, card = model.facts, model.path / model.CARD
    if facts.members:
        parts = [
            Part(
                each.candidate,
                build(TrainParams.of_card(each.params, card), facts.image_size, seed=each.seed, augment=False),
                each.intercept,
                each.slope,
            )
            for each in facts.members
        ]
        network = combine(facts.candidate, parts, EnsembleParams.of_card(facts.params, card).flips)
        return _with_weights(network, model.weights, facts.architecture)
    assert facts.seed is not None, "the card of a training has it"
    params = TrainParams.of_card(facts.params, card)
    network = load_weights(model.weights, params, facts.image_size, facts.seed)
    return flipped(network) if flips else network


def load_weights(weights: Path, params: TrainParams, image_size: int, seed: int) -> keras.Model:
    """Build a network in float32 and load its weights. See `load`.

    Raises:
        DataRefused: the weights do not belong to the architecture.
    """
    return _with_weights(build(params, image_size, seed=seed, augment=False), weights, params.architecture)


def _with_weights(network: keras.Model, weights: Path, architecture: str) -> keras.Model:
    """A network with the weights of a file."""
    try:
        weights_file.check(weights, network)
        with _strictly():
            network.load_weights(weights)
    except (ValueError, OSError, LookupError, TypeError, AttributeError, RuntimeError, UserWarning) as error:
        raise DataRefused(f"{weights}: not the weights of {architecture} ({first_line(error)}).") from error
    return network


def is_pretrained(params: TrainParams) -> bool:
    """Whether the backbone starts from given weights."""
    return params.weights != "none"


def check_pretrained(params: TrainParams) -> None:
    """Check that the weights that `params.weights` names can be had, as far as that costs nothing.

    Raises:
        UsageError: the architecture has none, or there is no such file.
    """
    if params.contradiction:
        raise UsageError(f"train: {params.candidate}: {params.contradiction}.")
    if params.weights_file and not params.weights_file.is_file():
        raise UsageError(f"train: {params.candidate}: {params.no_weights_file}")


def load_pretrained(model: keras.Model, params: TrainParams) -> None:
    """Load the weights that `params.weights` names into the backbone: `imagenet`, or a file of Keras weights.

    Raises:
        UsageError: the architecture has none, or the file is missing or belongs to another network.
        ServiceUnreachable: ImageNet's weights could not be downloaded.
    """
    check_pretrained(params)
    name = params.architecture
    try:
        with _strictly():
            donor = _APPLICATIONS[name](include_top=False, weights=params.weights, input_shape=_rgb_shape(name, 224))
    except Exception as error:
        # Keras raises a bare Exception when its download fails.
        if params.weights != "imagenet":
            raise UsageError(
                f"train: {params.weights} does not hold Keras weights of {name} without its top ({first_line(error)})."
            ) from error
        cache = surroundings.keras_file().with_name("models")
        raise ServiceUnreachable(
            f"train: ImageNet weights for {name} could not be downloaded. On a machine with internet, fetch "
            f"{IMAGENET_ADDRESSES[name]} and put it into {cache}, or set `weights` of the candidate "
            f"{params.candidate} to the file."
        ) from error
    model.get_layer(BACKBONE).set_weights(donor.get_weights())


def set_backbone_trainable(model: keras.Model, trainable: bool) -> None:
    """Freeze or unfreeze everything but the head. Compile the model again afterwards."""
    model.get_layer(BACKBONE).trainable = trainable


_APPLICATIONS = {
    "vgg16": keras.applications.VGG16,
    "vgg19": keras.applications.VGG19,
    "inception_v3": keras.applications.InceptionV3,
}


def _application(params: TrainParams, x: keras.KerasTensor, seed: int) -> keras.KerasTensor:
    """A network of keras.applications without its top, then the mean over its last maps: [B, S, S, 1] to [B, C]."""
    name, size = params.architecture, x.shape[1]
    shape = _rgb_shape(name, size)
    if shape[0] != size:
        x = layers.Resizing(shape[0], shape[0], name="enlarge")(x)
    if name != "inception_v3" and is_pretrained(params):
        # The grey level three times, minus the means, blue first: what VGG was trained on.
        x = layers.Concatenate(name="channels")([x, x, x])
        x = layers.Rescaling(1.0, offset=[-mean for mean in IMAGENET_MEAN_BGR], name="scale")(x)
    else:
        x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(x)  # [-1, 1], as Inception was trained
        x = layers.Concatenate(name="channels")([x, x, x])
    backbone = _APPLICATIONS[name](include_top=False, weights=None, input_shape=shape, pooling="avg", name=BACKBONE)
    if name != "inception_v3" and not is_pretrained(params):
        _initialise_for_relu(backbone, seed)
    return backbone(x)


def _initialise_for_relu(backbone: keras.Model, seed: int) -> None:
    """Initialise convolutions in mirrored pairs.

    The second half of a layer's filters is minus the first half. The next layer takes the difference of such a pair,
    relu(x) - relu(-x) = x, so that without its pooling the network begins as a linear one: it keeps signals apart,
    where independent filters of many layers make all pictures alike (Balduzzi et al., arXiv:1702.08591; Burkholz &
    Dubatovka, NeurIPS 2019). The variance of the filters is 2 / fan-in, as in He et al., arXiv:1502.01852.
    """
    for number, layer in enumerate(backbone.layers):
        if isinstance(layer, layers.Conv2D):
            rows, columns, channels, filters = layer.kernel.shape
            # The input of the first layer, three times the grey level, has no pairs.
            pairs = channels // 2 if channels % 2 == 0 else channels
            free = keras.random.normal(
                (rows, columns, pairs, filters // 2), stddev=(rows * columns * pairs) ** -0.5, seed=seed + number
            )
            taken = ops.concatenate([free, -free], axis=2) if pairs < channels else free
            layer.kernel.assign(ops.concatenate([taken, -taken], axis=3))


def _rgb_shape(name: str, size: int) -> tuple[int, int, int]:
    size = max(size, INCEPTION_MIN_SIZE) if name == "inception_v3" else size
    return size, size, 3


def _custom_cnn(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """A small residual network of the pre-activation kind (He et al., arXiv:1603.05027): [B, S, S, 1] to [B, 8 W]."""
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(x)
    x = _convolution(x, width, stride=2)  # [B, S/2, S/2, W]
    for stage in range(4):
        for block in range(2):
            x = _residual(x, width << stage, stride=2 if stage and not block else 1)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))  # [B, S/16, S/16, 8 W]
    return layers.GlobalAveragePooling2D(name="mean")(x)


def _residual(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    active = layers.Activation("relu")(layers.BatchNormalization()(x))
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        # A convolution of 1 x 1 with a stride would do both in one. On CPUs with AVX-512, oneDNN 3.7 writes outside its
        # memory in the gradient of such a one with fewer than 16 channels: weights were wrong, or the process died.
        taken = layers.AveragePooling2D(1, strides=stride)(active) if stride > 1 else active
        shortcut = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer="he_normal")(taken)
    y = _convolution(active, filters, stride)
    y = layers.Activation("relu")(layers.BatchNormalization()(y))
    return layers.Add()([shortcut, _convolution(y, filters)])


def _convolution(x: keras.KerasTensor, filters: int, stride: int = 1) -> keras.KerasTensor:
    return layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)


@contextmanager
def _strictly() -> Iterator[None]:
    """Raise where Keras only warns: a layer without weights in the file keeps its old ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@contextmanager
def _policy(precision: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
