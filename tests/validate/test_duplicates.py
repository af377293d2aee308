import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import ROOT, manifest, picture, png, use_cores, write_zip

from components.archive.archive import Archive
from components.base.errors import DataRefused
from components.phantom.writing import write_phantom
from components.validate import duplicates
from components.validate.alignment import similarity
from components.validate.duplicates import EXACT, NEAR
from components.validate.hash_lookup import Lookup
from components.validate.warps import WARPS, Spectra, Warp
from components.xray.png import decode
from components.xray.signature import SPECTRUM_SIDE, low_frequencies, signature

Grey = np.ndarray

PER_KIND = 6
# Planted in the test split, of patients that have nothing else.
COPIES: dict[str, Callable[[Grey], Grey]] = {
    "cropped by 5 %": lambda g: g[: -round(0.05 * g.shape[0]), round(0.05 * g.shape[1]) :],
    "cropped by 5 % at every edge": lambda g: g[
        round(0.05 * g.shape[0]) : -round(0.05 * g.shape[0]), round(0.05 * g.shape[1]) : -round(0.05 * g.shape[1])
    ],
    "mirrored": lambda g: g[:, ::-1],
    "JPEG at quality 60": lambda g: cv2.imdecode(cv2.imencode(".jpg", g, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0),
    "brighter by 20 %": lambda g: np.clip(g * 1.2, 0, 255).astype(np.uint8),
    "darker by 20 %": lambda g: (g * 0.8).astype(np.uint8),
    "turned by 2 degrees": lambda g: turned(g, 2),
    "turned by 2 degrees the other way": lambda g: turned(g, -2),
    "in another file": lambda g: g,
    "half as large": lambda g: cv2.resize(g, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
}


def turned(grey: Grey, degrees: float) -> Grey:
    height, width = grey.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(grey, matrix, (width, height))


class Planted(NamedTuple):
    """A phantom's pictures with copies among them, and what was found."""

    table: pd.DataFrame
    archive: Archive
    originals: dict[str, str]
    """By the copy's image."""
    kinds: dict[str, str]
    pairs: pd.DataFrame


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    write_phantom(folder / "phantom.zip", studies=60, seed=3, difficulty=0.2, workers=1)
    with zipfile.ZipFile(folder / "phantom.zip") as phantom:
        files = {name: phantom.read(name) for name in phantom.namelist()}
    trained = [name for name in files if "/train/" in name and name.endswith(".png") and "/._" not in name]
    kinds, originals = {}, {}
    for number, kind in enumerate(COPIES):
        for place in range(PER_KIND):
            original = trained[(number * PER_KIND + place) % len(trained)]
            copy = f"{ROOT}/valid/XR_HAND/patient{90_000 + number * PER_KIND + place}/study1_negative/image1.png"
            files[copy] = png(np.ascontiguousarray(COPIES[kind](decode(files[original]).grey)))
            kinds[copy], originals[copy] = kind, original
    archive = write_zip(folder / "MURA-v1.1.zip", files)
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        table = manifest(archive, folder / "manifest").table
        read = Archive.read(archive)
        return Planted(table, read, originals, kinds, duplicates.find(read, table))


def share_found(planted: Planted, kind: str) -> float:
    found = {frozenset(pair) for pair in planted.pairs[["first", "second"]].itertuples(index=False)}
    mine = [frozenset((copy, planted.originals[copy])) for copy, its in planted.kinds.items() if its == kind]
    return sum(pair in found for pair in mine) / len(mine)


@pytest.mark.long
@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_every_kind_are_found(planted: Planted, kind: str) -> None:
    # Which few of a hundred are missed is chance; the benchmark counts over many.
    assert share_found(planted, kind) >= (PER_KIND - 1) / PER_KIND


@pytest.mark.long
def test_hardly_any_copy_is_missed(planted: Planted) -> None:
    assert np.mean([share_found(planted, kind) for kind in COPIES]) >= 0.95


def test_nothing_but_copies_is_found(planted: Planted) -> None:
    family = planted.originals | {original: original for original in planted.originals.values()}
    assert {family.get(image) for image in planted.pairs["first"]} <= set(planted.originals.values())
    for pair in planted.pairs.itertuples():
        assert family[pair.first] == family.get(pair.second)


def test_equal_pixels_in_another_file_are_exact_and_nothing_else_is(planted: Planted) -> None:
    exact = planted.pairs[planted.pairs["kind"] == EXACT]
    assert (exact["similarity"] == 1).all()
    assert {planted.kinds.get(image) for image in exact["second"]} == {"in another file"}
    assert set(planted.pairs["kind"]) == {EXACT, NEAR}


def test_a_pair_tells_in_what_it_differs_and_whether_it_is_mirrored(planted: Planted) -> None:
    planted_ones = planted.pairs[planted.pairs["second"].isin(planted.kinds)]
    assert planted_ones["splits"].all()
    assert planted_ones["patients"].all()
    # The copies are in no CSV, so they have no label that could differ.
    assert not planted_ones["labels"].any()
    mirrored = planted_ones["second"].map(planted.kinds) == "mirrored"
    original = planted_ones["second"].map(planted.originals) == planted_ones["first"]
    assert (planted_ones["mirrored"] == mirrored)[original].all()


def test_the_order_of_rows_does_not_matter(planted: Planted) -> None:
    shuffled = planted.table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(duplicates.find(planted.archive, shuffled), planted.pairs)


def test_a_table_in_a_file_gives_the_same_pairs(planted: Planted, tmp_path: Path) -> None:
    # More rows than are read at once, before and between those with pictures.
    unread = planted.table.iloc[:1].loc[[planted.table.index[0]] * 70_000].assign(pixels_sha256=None, spectrum=None)
    first = unread.assign(image=[f"A{number:06d}.png" for number in range(len(unread))])
    table = pd.concat([first, planted.table], ignore_index=True)
    for name, rows in (("ascending", table), ("shuffled", table.sample(frac=1, random_state=1))):
        rows.to_parquet(tmp_path / f"{name}.parquet", index=False)
        found = duplicates.find_in(planted.archive, tmp_path / f"{name}.parquet", tmp_path)
        pd.testing.assert_frame_equal(found, planted.pairs)


def test_copies_within_a_patient_split_and_label_do_not_matter(planted: Planted) -> None:
    one = planted.table.assign(patient="patient00001", split="train", abnormal=pd.array([1] * len(planted.table)))
    assert duplicates.find(planted.archive, one).empty


def test_a_copy_with_another_label_matters_within_a_patient(planted: Planted) -> None:
    image = next(iter(planted.kinds))
    label = (planted.table["image"] == image).astype("Int64")
    one = planted.table.assign(patient="patient00001", split="train", abnormal=label)
    found = duplicates.find(planted.archive, one)
    assert set(found["first"]) | set(found["second"]) == {image, planted.originals[image]}
    assert found[["splits", "patients", "labels"]].to_numpy().tolist() == [[False, False, True]]


def test_a_picture_that_has_gone_since_is_named(planted: Planted, tmp_path: Path) -> None:
    empty = Archive.read(write_zip(tmp_path / "empty.zip", {}))
    with pytest.raises(DataRefused, match=r"image\d+.png: was ingested, but cannot be read any more"):
        duplicates.find(empty, planted.table)


def test_nothing_is_found_where_nothing_was_read(planted: Planted) -> None:
    unread = planted.table.assign(pixels_sha256=None, spectrum=None)
    for table in (unread, planted.table.iloc[:0], planted.table.iloc[:1]):
        found = duplicates.find(planted.archive, table)
        assert found.empty
        assert list(found.columns) == list(planted.pairs.columns)


def test_flat_pictures_are_like_none() -> None:
    flat = np.zeros((5, SPECTRUM_SIDE**2), np.float32)
    assert not len(duplicates.candidates(Spectra.of(flat, np.ones(5)), always).copy)


def test_a_crowd_of_one_hash_is_found_whole_and_asks_for_few_comparisons() -> None:
    crowd = duplicates.CROWD + 1000
    low = np.tile(low_frequencies([signature(picture(1, 300, 400)).spectrum]), (crowd, 1))
    asked = []

    def matters(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        asked.append(len(one))
        return always(one, other)

    found = duplicates.candidates(Spectra.of(low, np.full(crowd, 4 / 3)), matters)
    assert set(found.copy) | set(found.original) == set(range(crowd))
    assert len(found.copy) <= crowd * duplicates.PARTNERS
    assert sum(asked) < crowd**2 / 10


def always(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.ones(len(one), bool)


# Numbers that differ in few bits are rare among numbers drawn at random.
near_numbers = st.builds(
    lambda base, flips: base ^ sum({1 << flip for flip in flips}),
    st.sampled_from([0, 2**63 - 1, 0x0F0F_1234_5678_9ABC]),
    st.lists(st.integers(0, 62), max_size=9),
)


@given(st.lists(near_numbers, max_size=30), st.lists(near_numbers, max_size=30), st.integers(0, 9))
@settings(deadline=None)
def test_the_lookup_finds_exactly_what_comparing_all_with_all_finds(
    queries: list[int], entries: list[int], radius: int
) -> None:
    expected = [(i, j) for i, a in enumerate(queries) for j, b in enumerate(entries) if (a ^ b).bit_count() <= radius]
    # Narrow bands, and wide ones as for many pictures.
    for bands in (radius + 1, radius // 2 + 1):
        lookup = Lookup(np.array(queries, np.uint64), np.array(entries, np.uint64), radius, bands)
        hits = [hit for band in range(bands) for some in lookup.hits(band) for hit in zip(*some, strict=True)]
        assert sorted(hits) == expected


def test_the_lookup_goes_through_a_large_bucket_piece_by_piece() -> None:
    many = np.zeros(3_000, np.uint64)
    lookup = Lookup(many, many, 1)
    hits = list(lookup.hits(0))
    assert max(len(one) for one, _ in hits) < 3_000**2 / 10
    pairs = np.concatenate([one * 3_000 + other for one, other in hits])
    assert np.array_equal(np.sort(pairs), np.arange(3_000**2))
    assert not list(lookup.hits(1))


@given(st.lists(st.sampled_from("abc"), max_size=12), st.data())
@settings(deadline=None)
def test_equal_rows_are_paired_if_they_differ_from_any_before(digests: list[str], drawn: st.DataObject) -> None:
    patients = np.array(drawn.draw(st.lists(st.integers(0, 2), min_size=len(digests), max_size=len(digests))), int)
    pairs = duplicates.equal_pairs(np.array(digests, str), lambda one, other: patients[one] != patients[other])
    expected = {
        later: next(i for i in range(later) if digests[i] == digest and patients[i] != patients[later])
        for later, digest in enumerate(digests)
        if any(digests[i] == digest and patients[i] != patients[later] for i in range(later))
    }
    assert {later: first for first, later in pairs.tolist()} == expected
    assert len(pairs) == len(expected)


@pytest.mark.parametrize("warp", WARPS)
def test_a_warp_of_the_spectrum_is_the_spectrum_of_the_warp(warp: Warp) -> None:
    grey = cv2.GaussianBlur(picture(5, 300, 400), (0, 0), 25)
    height, width = grey.shape
    affine = warp.matrix(width, height)[:2]
    seen = cv2.warpAffine(
        grey, affine, (width, height), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    whole, part = low_frequencies(signature(each).spectrum for each in (grey, seen))
    predicted = Spectra.of(whole[None], np.array([width / height])).warped(warp, np.array([0]))[0]
    lowest = part.reshape(SPECTRUM_SIDE, -1)[:12, :12].ravel()
    assert np.corrcoef(predicted, lowest)[0, 1] > 0.98


def test_similarity_is_high_for_copies_only() -> None:
    # Grain that is as fine as a pixel is another after the resampling that a crop needs.
    one, other = (cv2.GaussianBlur(picture(seed, 200, 300), (0, 0), 1) for seed in (1, 2))
    crop = one[10:, :-15]
    assert similarity(one, one) > 0.999
    assert similarity(crop, one) >= duplicates.LEAST_SIMILAR
    assert similarity(one, other) < 0.3
    assert similarity(one, np.full_like(one, 7)) == 0
