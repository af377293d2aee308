"""The four networks: pixels in, logit out."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from components.artifacts.trained_model import WEIGHTS, TrainedModel
from components.base.errors import DataRefused, ServiceUnreachable, UsageError
from components.network import architectures, augmentation
from components.params.document import read_params
from components.params.train import TrainParams
from components.train import phases

NAMES = ("custom_cnn", "vgg16", "vgg19", "inception_v3")
ROOT = Path(__file__).parents[2]
DEMO = read_params(ROOT / "params.yaml").train.candidates
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), dtype=np.uint8)


def params(name: str, **choices: Any) -> TrainParams:
    return DEMO[name].model_copy(update=choices)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_takes_pixels_and_gives_one_finite_logit_for_each(name: str) -> None:
    model = architectures.build(params(name), 64, seed=1)
    logit = model.predict_on_batch(PIXELS)
    assert logit.shape == (3, 1)
    assert logit.dtype == np.float32
    assert np.isfinite(logit).all()
    assert model.count_params() < 25_000_000  # no 124 million fully connected weights


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_signal_neither_dies_nor_explodes_on_its_way(name: str) -> None:
    model = architectures.build(params(name), 64, seed=1)
    spread = model.predict_on_batch(PIXELS.astype(np.float32)).std()
    assert 1e-6 < spread < 100


@pytest.mark.parametrize(("name", "block"), [("vgg16", "block4_conv"), ("vgg19", "block4_conv")])
def test_vgg_from_scratch_begins_linear_between_its_poolings(name: str, block: str) -> None:
    """So pictures are told apart after sixteen layers, too."""
    backbone = architectures.build(params(name), 32, seed=1).get_layer(architectures.BACKBONE)
    last = 3 if name == "vgg16" else 4
    given, seen = backbone.get_layer(f"{block}1").input, backbone.get_layer(f"{block}{last}").output
    between = keras.Function(given, seen)
    size = (2, *given.shape[1:3], given.shape[3] // 2)
    one, other = np.random.default_rng(0).normal(size=size).astype(np.float32)

    def paired(signal: Any) -> Any:
        """What the block makes of a signal that comes as its positive and negative parts."""
        parts = np.concatenate([np.maximum(signal, 0), np.maximum(-signal, 0)], axis=-1)
        made = np.asarray(between(parts[None]))[0]
        half = made.shape[-1] // 2
        return made[..., :half] - made[..., half:]

    np.testing.assert_allclose(paired(one + other), paired(one) + paired(other), atol=1e-4)
    assert paired(one).std() == pytest.approx(one.std(), rel=0.5)


def test_the_same_seed_gives_the_same_weights_and_another_others() -> None:
    one, same, other = (architectures.build(params("custom_cnn"), 32, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_augmentation_acts_in_training_only() -> None:
    model = architectures.build(params("custom_cnn", dropout=0.0), 64, seed=1)
    still = [np.asarray(model(PIXELS, training=False)) for _ in range(2)]
    assert np.array_equal(*still)
    turn = model.get_layer("place")
    assert not np.array_equal(turn(PIXELS.astype(np.float32), training=True), PIXELS)


def test_the_custom_cnn_is_as_wide_as_asked() -> None:
    narrow, wide = (architectures.build(params("custom_cnn", width=width), 32, seed=1) for width in (8, 16))
    assert wide.get_layer("mean").output.shape[-1] == 2 * narrow.get_layer("mean").output.shape[-1] == 128


STEPS = """
import sys, numpy as np, yaml
from components.network import architectures, backend
from components.params.train import TrainParams
backend.prepare()
document = yaml.safe_load(open("params.yaml"))["train"]["default"]
params = TrainParams(**document, candidate="narrow", architecture="custom_cnn").model_copy(
    update={"width": int(sys.argv[1]), "precision": "float32"}
)
network = architectures.build(params, 32, seed=1)
network.compile("adam", "mean_squared_error")
for count in (16, 7) * 5:
    pixels = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 1), dtype=np.uint8)
    network.train_on_batch(pixels, np.zeros((count, 1), np.float32))
"""


@pytest.mark.long
@pytest.mark.parametrize("width", [2, pytest.param(8, marks=pytest.mark.longest)])
def test_training_a_narrow_network_leaves_the_memory_whole(width: int) -> None:
    """Kernels for CPUs with AVX-512 wrote outside their memory."""
    # Where glibc has no such library, the loader goes on without it.
    checked = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
    words = [sys.executable, "-c", STEPS, str(width)]
    done = subprocess.run(words, env=os.environ | checked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_float16_gives_a_float32_logit_and_scales_the_loss() -> None:
    model = architectures.build(params("custom_cnn", width=4), 32, seed=1, precision="mixed_float16")
    phases.compile_for(model, phases.phases(params("custom_cnn"))[-1], params("custom_cnn"), 3)
    before = model.get_layer("logit").kernel.numpy()
    loss = model.train_on_batch(PIXELS[:, :32, :32], np.array([[0.0], [1.0], [0.0]], np.float32))
    assert np.isfinite(loss)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert model.predict_on_batch(PIXELS[:, :32, :32]).dtype == np.float32
    assert not np.array_equal(before, model.get_layer("logit").kernel.numpy())


@pytest.mark.long
@pytest.mark.parametrize("name", ["custom_cnn", "inception_v3"])
def test_batch_normalisation_forgets_as_fast_as_asked(name: str) -> None:
    model = architectures.build(params(name, batch_norm_momentum=0.87), 64, seed=1)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    assert {layer.momentum for layer in norms} == {0.87}


def test_vgg_sees_what_it_learned_on_when_pretrained() -> None:
    model = architectures.build(params("vgg16", weights="imagenet"), 64, seed=1)
    scaled = keras.Model(model.input, model.get_layer("scale").output)(PIXELS.astype(np.float32), training=False)
    grey = np.repeat(PIXELS.astype(np.float32), 3, axis=-1)
    expected = keras.applications.vgg16.preprocess_input(grey.copy())
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


@pytest.mark.long
def test_inception_sees_what_it_learned_on() -> None:
    model = architectures.build(params("inception_v3", weights="imagenet"), 80, seed=1)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 80, 80, 1)).astype(np.float32)
    scaled = keras.Model(model.input, model.get_layer("channels").output)(pixels, training=False)
    expected = keras.applications.inception_v3.preprocess_input(np.repeat(pixels, 3, axis=-1))
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


def test_bfloat16_gives_a_float32_logit_and_leaves_the_policy_alone() -> None:
    model = architectures.build(params("custom_cnn"), 32, seed=1, precision="mixed_bfloat16")
    assert model.predict_on_batch(PIXELS[:, :32, :32]).dtype == np.float32
    assert keras.config.dtype_policy().name == "float32"


def test_a_file_of_weights_is_put_into_the_backbone(tmp_path: Path) -> None:
    donor = keras.applications.VGG16(include_top=False, weights=None)
    file = tmp_path / "vgg16.weights.h5"
    donor.save_weights(file)
    choices = params("vgg16", weights=str(file))
    model = architectures.build(choices, 64, seed=1)
    architectures.load_pretrained(model, choices)
    backbone = model.get_layer(architectures.BACKBONE)
    assert all(np.array_equal(a, b) for a, b in zip(donor.get_weights(), backbone.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("name", "make", "word"),
    [
        ("vgg16", None, "no weights file"),
        ("custom_cnn", None, "no pretrained weights"),
        ("vgg16", b"not HDF5", "vgg16"),
    ],
)
def test_unusable_weights_are_told_in_one_line(name: str, make: bytes | None, word: str, tmp_path: Path) -> None:
    file = tmp_path / "some.weights.h5"
    if make is not None:
        file.write_bytes(make)
    choices = params(name, weights=str(file))
    with pytest.raises(UsageError, match=word) as refusal:
        architectures.load_pretrained(architectures.build(choices, 64, seed=1), choices)
    assert "\n" not in str(refusal.value)


def test_a_failed_download_says_which_file_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A proxy that nobody listens at: as on a machine without internet.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    choices = params("vgg16", weights="imagenet")
    model = architectures.build(choices, 64, seed=1)
    with pytest.raises(ServiceUnreachable) as refusal:
        architectures.load_pretrained(model, choices)
    assert "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/vgg16_weights" in str(refusal.value)
    assert str(tmp_path / "models") in str(refusal.value)
    assert refusal.value.exit_code == 5


def test_load_gives_back_what_was_saved(make_model: Callable[..., TrainedModel], tmp_path: Path) -> None:
    choices = params("custom_cnn")
    model = architectures.build(choices, 32, seed=3, precision="mixed_bfloat16")
    model.save_weights(tmp_path / WEIGHTS)
    sealed = make_model(
        "custom_cnn",
        weights=(tmp_path / WEIGHTS).read_bytes(),
        image_size=32,
        seed=9,
        params=choices.model_dump(mode="json"),
    )
    loaded = architectures.load(sealed)
    # The states of random layers are not weights.
    pairs = zip(model.weights, loaded.weights, strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs if "seed_generator" not in a.path)


def test_a_loaded_network_never_augments(make_model: Callable[..., TrainedModel], tmp_path: Path) -> None:
    choices = params("custom_cnn", dropout=0.5)
    trained = architectures.build(choices, 64, seed=3)
    trained.save_weights(tmp_path / WEIGHTS)
    weights = (tmp_path / WEIGHTS).read_bytes()
    card = choices.model_dump(mode="json")
    loaded = architectures.load(make_model("custom_cnn", weights=weights, image_size=64, params=card))
    # Called without a word about training, Keras' random layers would act.
    assert not any(isinstance(layer, keras.layers.RandomFlip | augmentation.RandomPlace) for layer in loaded.layers)
    np.testing.assert_allclose(loaded(PIXELS), trained.predict_on_batch(PIXELS), atol=1e-5)


def test_weights_of_another_architecture_are_refused(make_model: Callable[..., TrainedModel], tmp_path: Path) -> None:
    architectures.build(params("custom_cnn"), 32, seed=3).save_weights(tmp_path / WEIGHTS)
    weights = (tmp_path / WEIGHTS).read_bytes()
    wrong = params("vgg16").model_dump(mode="json")
    with pytest.raises(DataRefused, match="not the weights of vgg16"):
        architectures.load(make_model("vgg16", weights=weights, image_size=32, params=wrong))
