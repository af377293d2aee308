"""A miniature of MURA: the same layout, a handful of patients, pictures of 64 x 48 pixels."""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.manifest import BODY_PARTS, TABLE, Manifest, ValidManifest, ValidManifestFacts
from components.artifacts.shards import Shards
from components.ingest import ingest
from components.params.ingest import IngestParams
from components.params.shard import ShardParams
from components.shard import shard
from components.validate.proof import data_digest

ROOT = "MURA-v1.1"


def picture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture with large and small structure, uint8 [height, width]; another seed, another picture."""
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(0, 220, (6, 8), dtype=np.uint8)).resize((width, height))
    return np.asarray(rough) + rng.integers(0, 30, (height, width), dtype=np.uint8)


def png(pixels: np.ndarray, **options: object) -> bytes:
    """A picture as a PNG file."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def images(train: int = 28, valid: int = 7) -> list[str]:
    """Members of so many patients of each published split: one or two views, some patients with two body parts."""
    members = []
    for split, first, count in (("train", 1, train), ("valid", 10_001, valid)):
        for number in range(first, first + count):
            place = number - first
            for study in range(1 + (place % 5 == 4)):
                part = BODY_PARTS[(place + study) % len(BODY_PARTS)].upper()
                label = "positive" if place // len(BODY_PARTS) % 2 else "negative"
                folder = f"{ROOT}/{split}/XR_{part}/patient{number:05d}/study{study + 1}_{label}"
                members += [f"{folder}/image{view + 1}.png" for view in range(1 + place % 2)]
    return members


def archive(members: Iterable[str] | None = None) -> dict[str, bytes]:
    """The files of an archive: pictures that are all different, every third in colour mode, and the four CSVs."""
    names = images() if members is None else list(members)
    return {name: _drawn(name, place) for place, name in enumerate(names)} | lists(names)


def lists(members: Iterable[str]) -> dict[str, bytes]:
    """The CSVs as Stanford ships them: no header, LF, studies with a closing slash."""
    texts = {}
    for split in ("train", "valid"):
        listed = [name for name in members if name.startswith(f"{ROOT}/{split}/")]
        studies = dict.fromkeys(name.rpartition("/")[0] for name in listed)
        texts[f"{ROOT}/{split}_image_paths.csv"] = "".join(f"{name}\n" for name in listed).encode()
        texts[f"{ROOT}/{split}_labeled_studies.csv"] = "".join(
            f"{study}/,{int(study.endswith('positive'))}\n" for study in studies
        ).encode()
    return texts


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """A zip of these files, the same bytes whenever it is written."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content in files.items():
            made.writestr(zipfile.ZipInfo(name), content)
    return path


def write_directory(path: Path, files: Mapping[str, bytes]) -> Path:
    """A directory of these files."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def manifest(
    path: Path | str, out: Path, fraction: float = 0.25, seed: int = 1, overlay: Overlay | None = None
) -> Manifest:
    """What `ingest` makes of an archive."""
    out.mkdir()
    return ingest(Archive.read(path), overlay, IngestParams(tuning_fraction=fraction), seed, out)


def prove(made: Manifest, out: Path, change: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> ValidManifest:
    """A manifest as validation passes it on; `change` is made to its table."""
    out.mkdir()
    table = change(made.table) if change else made.table
    table.to_parquet(out / TABLE, index=False)
    known = made.facts.model_dump() | {"manifest_digest": made.digest, "data_digest": data_digest(table)}
    return ValidManifest.seal(out, ValidManifestFacts(**known, expectations=1, warnings=()))


def pack(path: Path | str, valid: ValidManifest, out: Path, image_size: int = 32, images_per_shard: int = 10) -> Shards:
    """What `shard` makes of an archive."""
    out.mkdir()
    params = ShardParams(image_size=image_size, images_per_shard=images_per_shard)
    return shard(Archive.read(path), valid, params, out)


def use_cores(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have so many cores. With one, no worker process is started."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)))


def _drawn(name: str, place: int) -> bytes:
    pixels = picture(zlib.crc32(name.encode()))
    return png(np.dstack([pixels] * 3) if place % 3 == 2 else pixels)
