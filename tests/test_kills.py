from pathlib import Path

import pytest
from miniature import archive, manifest, use_cores, write_zip

from benchmarks import harness
from benchmarks.kills import kill
from components.artifacts.manifest import TABLE, Manifest
from components.errors import MuraError


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    path = write_zip(tmp_path_factory.mktemp("archive") / "MURA-v1.1.zip", archive())
    return [
        *harness.mura(),
        "--quiet",
        "ingest",
        "--archive",
        path,
        "--params",
        '{"tuning_fraction": 0.25}',
        "--seed",
        "1",
    ]


def test_an_ingest_killed_at_random_moments_leaves_nothing_torn_and_ends_in_the_same_bytes(
    command: list[object], tmp_path: Path
) -> None:
    """`python -m benchmarks.kills --kills 50` for more of them."""
    result = kill(command, Manifest, tmp_path / "out" / "manifest", kills=2)
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
