"""Head first, then all layers: the phases of a training, and the optimiser of each."""

from typing import Any, NamedTuple

import keras

from components.base.errors import UsageError
from components.network import architectures
from components.params.train import TrainParams

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


def compile_for(model: keras.Model, phase: Phase, params: TrainParams, images: int) -> None:
    """Prepare a network for a phase: which layers are trained, optimiser, loss.

    Args:
        model: the network.
        phase: the phase.
        params: schedule, weight decay, weights.
        images: images in an epoch.
    """
    if architectures.is_pretrained(params):
        architectures.set_backbone_trainable(model, phase.name != HEAD)
    # Its name is written beside the weights; without one Keras counts how many there were before.
    name, decay = "adam_w", params.weight_decay
    optimizer = keras.optimizers.AdamW(schedule(phase, params, images), weight_decay=decay, name=name)
    # Smaller biases and smaller scales of a normalisation do not regularise.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # Without XLA: compiling takes longer than the demonstration, and on some GPUs it fails.
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    optimizer.build(model.trainable_variables)
