"""Maps of what a network used: where they are taken, where their cells lie, and that they point to the finding."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from components.network import architectures, backend
from components.network.grad_cam import GradCam
from components.params.document import read_params

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
CANDIDATES = read_params(ROOT / "params.yaml").train.candidates
RANDOM = np.random.default_rng(0)


@cache
def network(name: str, size: int) -> Any:
    return architectures.build(CANDIDATES[name], size, seed=1, augment=False)


def pictures(size: int, count: int = 3) -> Any:
    return RANDOM.integers(0, 256, (count, size, size, 1), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "size", "layer", "cells"),
    [
        ("custom_cnn", 32, None, 16),  # the largest that there is
        ("custom_cnn", 48, None, 24),
        ("custom_cnn", 320, None, 40),
        ("vgg16", 48, "block2_conv2", 24),
        ("vgg16", 160, "block3_conv3", 40),
        ("vgg19", 64, "block2_conv2", 32),
        ("inception_v3", 48, None, 35),  # enlarged to 75 pixels
        ("inception_v3", 320, "mixed2", 37),
    ],
)
def test_the_map_is_that_of_the_last_layer_that_has_enough_cells(
    name: str, size: int, layer: str | None, cells: int
) -> None:
    found = GradCam(network(name, size))
    assert found.layer == (layer or found.layer)
    assert found.shape == (cells, cells)
    # They cover the picture, evenly to both sides up to one of them.
    middle = found.cells.first + found.cells.step * (cells - 1) / 2
    assert abs(middle - (size - 1) / 2) < found.cells.step / 2


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16", "inception_v3"])
def test_maps_have_the_size_of_the_pictures_whatever_the_batches(name: str) -> None:
    backend.prepare()
    found, pixels = GradCam(network(name, 48)), pictures(48)
    maps = found.maps(pixels)
    assert (maps.shape, maps.dtype) == ((3, 48, 48), np.float32)
    assert maps.min() >= 0
    assert maps.max() > 0
    np.testing.assert_array_equal(maps, found.maps(pixels))
    np.testing.assert_allclose(maps, found.maps(pixels, batch_size=1), rtol=1e-3, atol=1e-5 * maps.max())
    assert found.maps(pixels[:0]).shape == (0, 48, 48)


def test_with_flips_a_map_explains_the_image_and_its_mirror_image() -> None:
    backend.prepare()
    made, pixels = network("custom_cnn", 48), pictures(48)
    plain, both = GradCam(made), GradCam(made, flips=True)
    mirror = np.ascontiguousarray(pixels[:, :, ::-1])
    expected = (plain.maps(pixels) + plain.maps(mirror)[:, :, ::-1]) / 2
    np.testing.assert_array_equal(both.maps(pixels), expected)
    np.testing.assert_allclose(both.maps(mirror), expected[:, :, ::-1], rtol=1e-6)
    assert not np.allclose(both.maps(pixels), plain.maps(pixels), rtol=0.1)


def small(*between: Any, size: int = 32, kernel: str = "glorot_uniform") -> Any:
    """A network of some layers, the mean over the map, and a logit."""
    keras.utils.set_random_seed(1)
    pixels = x = keras.Input((size, size, 1))
    for layer in between:
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, layers.Dense(1, kernel_initializer=kernel)(x))


@pytest.mark.parametrize("pooled", [False, True])
def test_before_a_mean_and_a_logit_it_is_the_class_activation_map(pooled: bool) -> None:
    """Also where a maximum over neighbours comes between, as in VGG."""
    convolution = layers.Conv2D(5, 3, strides=4, padding="same", activation="relu", name="last")
    made, pixels = small(convolution, *[layers.MaxPooling2D(2)] * pooled), pictures(32)
    channels = convolution(pixels.astype(np.float32)).numpy()
    by_hand = np.maximum(channels @ made.layers[-1].get_weights()[0][:, 0], 0) / 64
    found = GradCam(made, min_cells=6)
    assert found.layer == "last"
    for method in ("grad_cam",) if pooled else ("grad_cam", "hires_cam"):
        cells = found._cells(pixels, method).numpy()
        np.testing.assert_allclose(cells, by_hand, rtol=1e-4, atol=1e-6)


def test_no_branch_leads_past_the_layer() -> None:
    def block(x: Any) -> Any:
        left = layers.Conv2D(4, 3, padding="same", name="left")(x)
        return layers.Add(name="both")([left, layers.Conv2D(4, 1, name="right")(x)])

    narrow = layers.MaxPooling2D(8)
    assert GradCam(small(layers.Conv2D(4, 3, strides=2, padding="same"), block, narrow), 6).layer == "both"


@pytest.mark.parametrize("place", [(6, 6), (16, 25), (30, 12), (33, 33)])
def test_a_map_lies_where_its_cells_see_the_picture(place: tuple[int, int]) -> None:
    """Also with an enlarged picture, and layers without padding."""
    stack = [
        layers.Resizing(80, 80),
        layers.Conv2D(1, 3, strides=2, kernel_initializer="ones"),
        layers.Conv2D(1, 3, kernel_initializer="ones"),
        layers.AveragePooling2D(3, strides=2),
        layers.Conv2D(1, 3, padding="same", kernel_initializer="ones"),
    ]
    pixels = np.zeros((1, 40, 40, 1), np.uint8)
    pixels[0, place[0], place[1]] = 255
    found = GradCam(small(*stack, size=40, kernel="ones"), 6)
    strength = found.maps(pixels)[0]
    rows, columns = np.indices(strength.shape)
    middle = [(each * strength).sum() / strength.sum() for each in (rows, columns)]
    np.testing.assert_allclose(middle, place, atol=1.0)


SIDE = 32


def discs(seed: int, count: int) -> tuple[Any, Any, Any]:
    """Noisy pictures, every second one with a bright disc somewhere; labels, and where the disc is."""
    random = np.random.default_rng(seed)
    labels, places = np.arange(count) % 2, random.integers(5, SIDE - 5, (count, 2))
    rows, columns = np.indices((SIDE, SIDE))
    away = (rows - places[:, 0, None, None]) ** 2 + (columns - places[:, 1, None, None]) ** 2
    pixels = random.normal(90, 20, (count, SIDE, SIDE)) + 100 * (away <= 9) * labels[:, None, None]
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., None], labels, places


@pytest.fixture(scope="module")
def taught() -> Any:
    """A custom CNN that has learned to find discs."""
    backend.prepare()
    made = architectures.build(CANDIDATES["custom_cnn"], SIDE, seed=1, augment=False)
    made.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    pixels, labels, _ = discs(1, 128)
    made.fit(pixels, labels.astype(np.float32)[:, None], batch_size=16, epochs=3, verbose=0)
    return made


def peaks(maps: Any) -> Any:
    """Rows and columns of the strongest places, [N, 2]."""
    return np.stack(np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[1:]), axis=1)


@pytest.mark.long
def test_the_map_points_to_the_finding_and_moves_with_it(taught: Any) -> None:
    pixels, labels, places = discs(2, 60)
    ill, where = pixels[labels == 1], places[labels == 1]
    found = GradCam(taught)
    away = np.abs(peaks(found.maps(ill)) - where).max(axis=1)
    # A map that always points to the middle would be right for a quarter.
    assert np.mean(away <= 5) >= 0.8
    turned = np.abs(peaks(found.maps(ill[:, ::-1, ::-1])) - (SIDE - 1 - where)).max(axis=1)
    assert np.mean(turned <= 5) >= 0.8


def test_nothing_speaks_for_abnormal_where_there_is_no_finding(taught: Any) -> None:
    pixels, labels, _ = discs(3, 60)
    strongest = GradCam(taught).maps(pixels).max(axis=(1, 2))
    assert np.median(strongest[labels == 0]) < np.median(strongest[labels == 1]) / 3


NARROW = """
import numpy as np, yaml
from components.network import architectures, backend
from components.network.grad_cam import GradCam
from components.params.train import TrainParams
backend.prepare()
document = yaml.safe_load(open("params.yaml"))["train"]["default"]
params = TrainParams(**document, candidate="narrow", architecture="custom_cnn").model_copy(update={"width": 8})
found = GradCam(architectures.build(params, 32, seed=1, augment=False))
for count in (8, 13, 14, 5, 8, 1, 3, 8, 64):
    found.maps(np.random.default_rng(count).integers(0, 256, (count, 32, 32, 1), dtype=np.uint8), batch_size=8)
"""


def test_maps_of_a_narrow_network_leave_the_memory_whole() -> None:
    # Where glibc has no such library, the loader goes on without it.
    checked = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
    words = [sys.executable, "-c", NARROW]
    done = subprocess.run(words, env=os.environ | checked, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
