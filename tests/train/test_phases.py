"""Learning rates, weight decay and the optimiser's steps. Networks of a few weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.network.architectures import BACKBONE
from components.params.document import read_params
from components.params.train import TrainParams
from components.train import phases
from components.train.optimiser import AdamW
from components.train.phases import HEAD, Phase

DEMO = read_params(Path(__file__).parents[2] / "params.yaml").train.candidates
IMAGES = 50


def params(**choices: Any) -> TrainParams:
    return DEMO["vgg16"].model_copy(update={"batch_size": 8, "epochs": 6} | choices)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_the_sum_of_rates_is_that_of_the_schedule(warmup: float) -> None:
    choices = params(warmup=warmup)
    (phase,) = phases.phases(choices)
    schedule = phases.schedule(phase, choices, IMAGES)
    rates = phases.learning_rates(phase, choices, IMAGES)
    assert len(rates) == 6 * 7
    np.testing.assert_allclose(rates, [float(schedule(step)) for step in range(len(rates))], rtol=1e-4, atol=1e-9)


def network() -> keras.Model:
    """A backbone of a dense layer and a normalisation, and a head; all weights are 1."""
    inside = [keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Sequential(inside, name=BACKBONE), keras.layers.Dense(1)])
    model.build((None, 4))
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    return model


def applied(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> Callable[[list[tf.Tensor]], None]:
    """A step with given gradients, compiled: step by step in Python takes seconds."""

    def step(gradients: list[tf.Tensor]) -> None:
        optimizer.apply(gradients, model.trainable_variables)

    return tf.function(step, autograph=False)


@pytest.mark.parametrize(("shrinkage", "warmup"), [(0.1, 0.2), (0.9, 0.0)])
def test_a_weight_without_gradient_loses_its_share_over_all_phases_and_biases_and_scales_lose_nothing(
    shrinkage: float, warmup: float
) -> None:
    choices = params(shrinkage=shrinkage, warmup=warmup, weights="imagenet", head_epochs=2, head_learning_rate=0.01)
    model = network()
    for phase in phases.phases(choices):
        phases.compile_for(model, phase, choices, IMAGES)
        nothing = [tf.zeros(weight.shape) for weight in model.trainable_variables]
        step = applied(model.optimizer, model)
        for _ in range(phase.epochs * phases.steps(IMAGES, choices)):
            step(nothing)
    assert len(model.trainable_variables) == 6
    for weight in model.trainable_variables:
        np.testing.assert_allclose(weight, 1 - shrinkage if weight.name == "kernel" else 1, rtol=1e-4)


def test_the_heads_own_phase_has_no_decay() -> None:
    choices = params(shrinkage=0.5, weights="imagenet", head_epochs=2)
    head, everything = phases.phases(choices)
    assert head.name == HEAD
    assert phases.weight_decay(head, choices, IMAGES) == 0
    assert phases.weight_decay(everything, choices, IMAGES) > 0


def test_steps_are_those_of_keras_adam_w() -> None:
    rng = np.random.default_rng(0)
    gradients = [[rng.normal(size=weight.shape).astype(np.float32) for weight in network().trainable_variables]
                 for _ in range(5)]  # fmt: skip
    ended = []
    for kind in (AdamW, keras.optimizers.AdamW):
        model = network()
        optimizer = kind(0.01, weight_decay=0.1, global_clipnorm=1.5)
        optimizer.build(model.trainable_variables)
        step = applied(optimizer, model)
        for each in gradients:
            step([tf.constant(gradient) for gradient in each])
        ended.append(model.get_weights())
    for ours, theirs in zip(*ended, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_training_of_no_shrinkage_has_no_decay() -> None:
    phase = Phase("all", 6, 0.01, "learning_rate")
    assert phases.weight_decay(phase, params(shrinkage=0.0), IMAGES) == 0
