from pathlib import Path

import pytest
from miniature import archive, manifest, prove, use_cores, write_zip

from benchmarks import harness
from benchmarks.kills import kill
from components.artifacts.manifest import TABLE, Manifest
from components.artifacts.parts import ShardsPart
from components.artifacts.shards import Shards
from components.base.errors import MuraError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an archive and its proven manifest."""
    place = tmp_path_factory.mktemp("archive")
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(place / "MURA-v1.1.zip", archive())
        prove(manifest(path, place / "manifest"), place / "valid")
    return place


STEPS = {
    "ingest": (Manifest, ("--seed", "1", "--params", '{"tuning_fraction": 0.25}')),
    "shard": (Shards, ("--manifest", "valid", "--params", '{"image_size": 256, "images_per_shard": 4}')),
    "shard --part 2/2": (ShardsPart, ("--manifest", "valid", "--params", '{"image_size": 256, "images_per_shard": 2}')),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_killed_at_random_moments_leaves_nothing_torn_and_ends_in_the_same_bytes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """`python -m benchmarks.kills --kills 50` for more of them."""
    monkeypatch.chdir(place)
    kind, words = STEPS[step]
    command = [*harness.mura(), "--quiet", *step.split(), "--archive", place / "MURA-v1.1.zip", *words]
    result = kill(command, kind, tmp_path / "out" / "artifact", kills=2)
    assert (result.kills, result.torn, result.same) == (2, (), True)


def test_a_bit_that_flips_anywhere_in_a_manifest_is_found_and_its_file_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cores(1, monkeypatch)
    out = tmp_path / "manifest"
    manifest(write_zip(tmp_path / "MURA-v1.1.zip", archive()), out)
    assert {path.name for path in out.iterdir()} == {TABLE, Manifest.CARD}
    for path in out.iterdir():
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 100)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << place % 8
            path.write_bytes(flipped)
            # A letter of its kind makes it another artifact, whose directory is named.
            with pytest.raises(MuraError, match=rf"{path.name}|{out}: expected a Manifest"):
                Manifest.read(out)
        path.write_bytes(whole)
    Manifest.read(out)
