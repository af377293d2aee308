"""The moving average of the weights."""

import contextlib

import keras
import numpy as np
import pytest

from components.train.averaging import Averages

STEPS = 40.0


@pytest.fixture
def model() -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    model.compile(keras.optimizers.SGD(), "mse")
    return model


def stepped(model: keras.Model, averages: Averages, values: np.ndarray) -> None:
    """Steps after which all weights have these values in turn."""
    for value in values:
        model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
        model.optimizer.iterations.assign_add(1)
        averages.advance()


def expected(values: np.ndarray, begin: float) -> float:
    average = begin
    for step, value in enumerate(values, start=1):
        average += max(1 - np.exp(-1 / STEPS), 9 / (10 + step)) * (value - average)
    return average


def test_the_average_follows_weights_and_statistics_of_normalisation(model: keras.Model) -> None:
    averages = Averages(model, STEPS)
    model.set_weights([np.full_like(weight, 0.5) for weight in model.get_weights()])
    averages.begin()
    values = np.random.default_rng(0).normal(size=60)
    stepped(model, averages, values)
    with averages.applied():
        inside = model.get_weights()
    assert len(inside) == 6
    for weight in inside:
        np.testing.assert_allclose(weight, expected(values, 0.5), rtol=1e-5, atol=1e-6)


def test_the_network_has_its_own_weights_again_whatever_happens(model: keras.Model) -> None:
    averages = Averages(model, STEPS)
    averages.begin()
    stepped(model, averages, np.array([1.0, 2.0]))
    before = model.get_weights()
    with contextlib.suppress(KeyboardInterrupt), averages.applied():
        assert not np.array_equal(model.get_weights()[0], before[0])
        raise KeyboardInterrupt
    for own, again in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, again)


def test_a_short_training_does_not_keep_what_was_before_it(model: keras.Model) -> None:
    averages = Averages(model, 10_000.0)
    averages.begin()
    stepped(model, averages, np.full(30, 7.0))
    with averages.applied():
        assert model.get_weights()[0] == pytest.approx(np.full((2, 2), 7.0), abs=0.1)


def test_without_averaging_there_is_nothing_to_save_and_the_weights_are_kept(model: keras.Model) -> None:
    averages = Averages(model, 0.0)
    averages.begin()
    stepped(model, averages, np.array([1.0, 3.0]))
    assert averages.variables == []
    with averages.applied():
        np.testing.assert_array_equal(model.get_weights()[0], np.full((2, 2), 3.0))
