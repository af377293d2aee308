"""What a network saw beside its logit: at several depths, of all members."""

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from components.network import architectures, backend, stored
from components.network.combining import Part, combine, flipped
from components.network.features import with_features
from components.params.document import read_params

CANDIDATES = read_params(Path(__file__).parents[2] / "params.yaml").train.candidates
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)


@cache
def network(name: str, seed: int = 1) -> Any:
    backend.prepare()
    params = CANDIDATES[name]
    if name == "custom_cnn":
        params = params.model_copy(update={"width": 8})
    return architectures.build(params, 48, seed=seed, augment=False)


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("custom_cnn", ((10, 8), (10, 16), (10, 32), (10, 64))),
        pytest.param("vgg16", ((10, 64), (10, 128), (10, 256), (10, 512), (10, 512), (1, 512)), marks=pytest.mark.long),
        pytest.param(
            "vgg19", ((10, 64), (10, 128), (10, 256), (10, 512), (10, 512), (1, 512)), marks=pytest.mark.longest
        ),
        pytest.param(
            "inception_v3",
            ((10, 32), (10, 64), (10, 80), (10, 192), (10, 288), (10, 768), (1, 2048)),
            marks=pytest.mark.longest,
        ),
    ],
)
def test_the_logit_stays_and_what_was_seen_at_each_depth_comes_with_it(
    name: str, depths: tuple[tuple[int, int], ...]
) -> None:
    plain, found = network(name), with_features(network(name))
    logit, seen = found.model.predict(PIXELS, verbose=0)
    assert np.array_equal(logit, plain.predict(PIXELS, verbose=0))
    assert found.depths == depths
    assert (seen.shape, seen.dtype) == ((3, sum(rows * channels for rows, channels in depths)), np.float32)
    # At the last depth the head of the network takes the mean over the map: that of its parts.
    rows, channels = depths[-1]
    head = keras.Model(plain.input, plain.get_layer("dropout").input).predict(PIXELS, verbose=0)
    last = seen[:, -rows * channels :].reshape(3, rows, channels)
    parts = last[:, :-1] if rows > 1 else last
    np.testing.assert_allclose(parts.mean(axis=1), head, rtol=1e-4, atol=1e-5)
    first = seen[:, : depths[0][0] * depths[0][1]].reshape(3, *depths[0])
    assert (first[:, -1] >= 0).all()
    assert first[:, -1].max() > 0


def test_an_empty_picture_has_no_deviation_where_nothing_is_at_its_edge() -> None:
    found = with_features(network("custom_cnn"))
    seen = found.model.predict(np.zeros((1, 48, 48, 1), np.uint8), verbose=0)[1]
    assert np.isfinite(seen).all()


@pytest.mark.long
@pytest.mark.longest
def test_with_the_mirror_image_the_logit_is_the_mean_of_both_and_the_features_are_of_the_image() -> None:
    single, both = with_features(network("custom_cnn")), with_features(flipped(network("custom_cnn")))
    assert both.depths == single.depths
    seen = single.model.predict(PIXELS, verbose=0)[1]
    logit, found = both.model.predict(PIXELS, verbose=0)
    np.testing.assert_allclose(found, seen, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logit, flipped(network("custom_cnn")).predict(PIXELS, verbose=0), rtol=1e-6)
    for each in (single, both):
        np.testing.assert_allclose(each.features.predict(PIXELS, verbose=0), seen, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_an_ensemble_has_what_each_member_saw_also_when_it_comes_from_the_registry(tmp_path: Path) -> None:
    members = [network("custom_cnn"), network("custom_cnn", seed=2)]
    parts = [Part(f"c{number}", each, 0.1 * number, 0.5) for number, each in enumerate(members)]
    whole = combine("both", parts, flips=False)
    found = with_features(whole)
    singles = [with_features(each) for each in members]
    assert found.depths == singles[0].depths + singles[1].depths
    logit, seen = found.model.predict(PIXELS, verbose=0)
    expected = np.concatenate([each.model.predict(PIXELS, verbose=0)[1] for each in singles], axis=1)
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logit, whole.predict(PIXELS, verbose=0), rtol=1e-6)
    whole.save(tmp_path / "model.keras")
    again = with_features(stored.load(tmp_path / "model.keras"))
    assert again.depths == found.depths
    np.testing.assert_allclose(again.model.predict(PIXELS, verbose=0)[1], seen, rtol=1e-5, atol=1e-6)
