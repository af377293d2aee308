"""Networks as ONNX files: the same logits, and maps whose mean tells the logit."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest

from components.network import architectures, onnx_export, stored
from components.network.activation_map import with_map
from components.network.combining import Part, combine, flipped
from components.network.features import with_features
from components.params.document import read_params
from components.params.train import TrainParams

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
DEMO = read_params(ROOT / "params.yaml").train.candidates
BIAS = 0.37
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 80, 80, 1), dtype=np.uint8)


def built(name: str, size: int, seed: int = 1, **choices: object) -> keras.Model:
    params: TrainParams = DEMO[name].model_copy(update=choices)
    network = architectures.build(params, size, seed=seed, augment=False)
    network.get_layer("logit").bias.assign([BIAS])
    return network


def answers(content: bytes, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logit, cells = session.run(["logit", "map"], {"pixels": pixels})
    assert logit.shape == (len(pixels), 1)
    return logit[:, 0], cells


def check_features(content: bytes, network: keras.Model, pixels: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["features"], {"pixels": pixels})
    seen = with_features(network).model.predict(pixels, verbose=0)[1]
    np.testing.assert_allclose(found, seen, rtol=1e-3, atol=1e-3 * np.abs(seen).max())


def expected(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(network.predict(pixels, verbose=0))[:, 0]


@pytest.mark.parametrize(
    ("name", "size", "cells"),
    [
        ("custom_cnn", 48, (3, 3)),
        pytest.param("vgg16", 64, (2, 2), marks=pytest.mark.longest),
        pytest.param("vgg19", 48, (1, 1), marks=pytest.mark.longest),
        pytest.param("inception_v3", 80, (1, 1), marks=pytest.mark.longest),
    ],
)
def test_every_architecture_gives_the_same_logits_and_an_exact_map(
    name: str, size: int, cells: tuple[int, int]
) -> None:
    network, pixels = built(name, size), PIXELS[:, :size, :size]
    content = onnx_export.content(network)
    check_features(content, network, pixels)
    logit, found = answers(content, pixels)
    np.testing.assert_allclose(logit, expected(network, pixels), atol=1e-4)
    assert found.shape == (3, *cells)
    np.testing.assert_allclose(found.mean(axis=(1, 2)) + BIAS, logit, atol=1e-4)


@pytest.mark.longest
def test_mirror_images_are_inside_and_their_maps_are_mirrored_back() -> None:
    network, pixels = built("custom_cnn", 48, width=4), PIXELS[:, :48, :48]
    content = onnx_export.content(network, flips=True)
    check_features(content, flipped(network), pixels)
    logit, cells = answers(content, pixels)
    np.testing.assert_allclose(logit, expected(flipped(network), pixels), atol=1e-4)
    turned_logit, turned = answers(onnx_export.content(network, flips=True), pixels[:, :, ::-1])
    np.testing.assert_allclose(turned_logit, logit, atol=1e-4)
    np.testing.assert_allclose(turned, cells[:, :, ::-1], atol=1e-4)
    assert np.abs(cells - cells[:, :, ::-1]).max() > 1e-3


@pytest.mark.longest
@pytest.mark.parametrize("flips", [False, True])
def test_an_ensemble_is_the_mean_of_its_members_lines_and_maps(flips: bool, tmp_path: Path) -> None:
    """Its members have grids of two sizes. It comes from a file, as the registry has it."""
    parts = [
        Part("small", built("custom_cnn", 64, width=4), 0.2, 0.5),
        Part("wide", built("vgg16", 64, seed=2), -0.1, 1.5),
    ]
    combine("both", parts, flips).save(tmp_path / "model.keras")
    network, pixels = stored.load(tmp_path / "model.keras"), PIXELS[:, :64, :64]
    content = onnx_export.content(network)
    check_features(content, network, pixels)
    logit, cells = answers(content, pixels)
    np.testing.assert_allclose(logit, expected(network, pixels), atol=1e-4)
    assert cells.shape == (3, 4, 4)
    rest = np.mean([part.intercept + part.slope * BIAS for part in parts])
    np.testing.assert_allclose(cells.mean(axis=(1, 2)) + rest, logit, atol=1e-4)


def test_keras_and_onnx_give_the_same_map() -> None:
    network, pixels = built("custom_cnn", 48, width=4), PIXELS[:, :48, :48]
    _, cells = answers(onnx_export.content(network), pixels)
    np.testing.assert_allclose(with_map(network)(pixels.astype(np.float32)).map, cells, atol=1e-4)


@pytest.mark.longest
def test_the_same_weights_give_the_same_bytes_in_every_process() -> None:
    script = """
import hashlib, sys
from components.network import backend
backend.prepare()
from test_onnx_export import Part, built, combine, onnx_export
for _ in range(int(sys.argv[1])):
    built("custom_cnn", 32, seed=3, width=4)  # Keras numbers its layers
one, other = built("custom_cnn", 32, width=4), built("vgg16", 32, seed=2)  # grids of two sizes
both = combine("both", [Part("one", one, 0.2, 0.5), Part("other", other, -0.1, 1.5)], False)
asked = [(one, True), (both, False)]
# A network that was converted before is not converted again for an ensemble.
contents = [onnx_export.content(*each) for each in (asked if sys.argv[1] == "0" else asked[::-1])]
print(sorted(hashlib.sha256(each).hexdigest() for each in contents))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", script, before],
            cwd=ROOT,
            env=os.environ
            | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests/network")))},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for before, seed in (("0", "1"), ("2", "2"))
    }
    assert len(said) == 1


def test_a_network_that_ends_otherwise_is_refused() -> None:
    pixels = keras.Input((32, 32, 1))
    dense = keras.layers.Dense(1)(keras.layers.Flatten()(pixels))
    with pytest.raises(ValueError, match="expected the mean over feature maps before the linear unit, found Flatten"):
        onnx_export.content(keras.Model(pixels, dense))
    pooled = keras.layers.GlobalAveragePooling2D()(pixels)
    with pytest.raises(ValueError, match="ends in one linear unit"):
        onnx_export.content(keras.Model(pixels, keras.layers.Dense(2)(pooled)))
