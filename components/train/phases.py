"""Head first, then all layers: the phases of a training, and the optimiser of each."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from components.base.errors import UsageError
from components.network import architectures
from components.params.train import TrainParams
from components.train.optimiser import AdamW

HEAD, ALL = "head", "all"


class Phase(NamedTuple):
    """Some epochs with one optimiser."""

    name: str
    epochs: int
    peak: float
    """Learning rate after the warm-up."""
    peak_choice: str
    """The parameter that sets the peak."""


def phases(params: TrainParams) -> tuple[Phase, ...]:
    """The head alone, then all layers, if the backbone is pretrained; otherwise all layers at once.

    Raises:
        UsageError: the backbone is not pretrained, and the head should be trained first.
    """
    if params.contradiction:
        raise UsageError(f"train: {params.candidate}: {params.contradiction}.")
    everything = Phase(ALL, params.epochs, params.learning_rate, "learning_rate")
    if not params.head_epochs:
        return (everything,)
    return Phase(HEAD, params.head_epochs, params.head_learning_rate, "head_learning_rate"), everything


def steps(images: int, params: TrainParams) -> int:
    """Batches in an epoch; the last one may be smaller."""
    return -(-images // params.batch_size)


def schedule(phase: Phase, params: TrainParams, images: int) -> Any:
    """Learning rate by step of a phase: a linear rise to the peak, then half a cosine down to zero.

    Args:
        phase: the phase.
        params: warm-up and batch size.
        images: images in an epoch.
    """
    total = phase.epochs * steps(images, params)
    warmup = int(total * params.warmup)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else phase.peak,
        decay_steps=max(1, total - warmup),
        warmup_target=phase.peak if warmup else None,
        warmup_steps=warmup,
    )


def learning_rates(phase: Phase, params: TrainParams, images: int) -> NDArray[np.float64]:
    """What `schedule` gives for each step of a phase, float64 [T]."""
    total = phase.epochs * steps(images, params)
    warmup = int(total * params.warmup)
    step = np.arange(total)
    cosine = (1 + np.cos(np.pi * np.clip((step - warmup) / max(1, total - warmup), 0, 1))) / 2
    return phase.peak * np.where(step < warmup, step / max(1, warmup), cosine)


def weight_decay(phase: Phase, params: TrainParams, images: int) -> float:
    """AdamW's weight decay, with which a weight without gradient loses `shrinkage` of itself over a whole training.

    Decoupled decay multiplies a weight by 1 - decay * rate in each step (Loshchilov and Hutter, arXiv:1711.05101), so
    what is left depends on the sum of the learning rates. The product of all steps shall be 1 - shrinkage. The head's
    own phase has no decay: so head and backbone lose the same.

    Args:
        phase: the phase.
        params: shrinkage and schedule.
        images: images in an epoch.
    """
    if phase.name == HEAD or not params.shrinkage:
        return 0.0
    rates = learning_rates(phase, params, images)
    kept = math.log1p(-params.shrinkage)
    decay = -kept / rates.sum()
    for _ in range(20):  # Newton's method on the sum of log(1 - decay * rate), which is concave: it cannot overshoot.
        left = np.maximum(1 - decay * rates, 1e-3)
        decay -= (kept - np.log(left).sum()) / (rates / left).sum()
    return float(decay)


def compile_for(model: keras.Model, phase: Phase, params: TrainParams, images: int) -> None:
    """Prepare a network for a phase: which layers are trained, optimiser, loss.

    Args:
        model: the network.
        phase: the phase.
        params: schedule, shrinkage, longest gradient, weights.
        images: images in an epoch.
    """
    if architectures.is_pretrained(params):
        architectures.set_backbone_trainable(model, phase.name != HEAD)
    optimizer: Any = AdamW(
        schedule(phase, params, images),
        weight_decay=weight_decay(phase, params, images),
        global_clipnorm=params.clip_norm or None,
        # Its name is written beside the weights; without one Keras counts how many there were before.
        name="adam_w",
    )
    # Smaller biases and smaller scales of a normalisation do not regularise.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        # The smallest gradients would be 0 in float16.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    # Without XLA: compiling takes longer than the demonstration, and on some GPUs it fails.
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    optimizer.build(model.trainable_variables)
