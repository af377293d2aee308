"""Whether the maps of HiResCAM point to the findings, on a phantom that knows where these are.

    python -m benchmarks.explain [--candidate custom_cnn ...] [--image-size 160] [--studies 800] [--epochs N] [--json]

The steps read a phantom, and train each candidate of params.yaml. Then the maps of its tuning pictures with findings
are compared with the truth beside the archive. `pointing` is the share of pictures without metal whose strongest place
lies in the box of a finding (pointing game: Zhang et al., arXiv:1608.00507), `metal` that of pictures with metal;
`centre` is the same for the middle of the picture, where a joint often is, and `chance` for any of its pixels; `away`
and `away_chance` are `pointing` and `chance` of the pictures whose middle is in no box. Three maps: HiResCAM; Grad-CAM
at the same layer; CAM, which both are at the last layer, however small its map.

Two questions whether a map moves with the finding. `mirrored` is the mean correlation of the mirrored picture's map,
mirrored back, with the picture's own; `unmoved` is the same without mirroring it back. `gone`: in the same view drawn
healthy, the share of what spoke for abnormal within the boxes that is gone, the median of the pictures.

`ratio` is the smallest margin of `pointing` over `centre`. The exit code is 1 if it is not above 0, or the custom CNN
points to fewer than 0.6.
"""

import argparse
import os
import sys
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from benchmarks import harness
from components.phantom.truth import Truth

FLOOR = 0.6
PARAMS = Path("params.yaml")
MAPS: Mapping[str, tuple[str, str, int | None]] = {
    "HiResCAM": ("pointing", "hires_cam", None),
    "Grad-CAM": ("grad_cam", "grad_cam", None),
    "CAM": ("cam", "hires_cam", 1),
}
"""By title: its key in the result, the method, and the least cells of its layer."""

Maps = npt.NDArray[np.float32]


class Box(NamedTuple):
    """Pixels of the square, half open."""

    left: int
    top: int
    right: int
    bottom: int


class Pictures(NamedTuple):
    """Pictures with findings."""

    names: list[str]
    pixels: npt.NDArray[np.uint8]
    """uint8 [N, S, S, 1]"""
    boxes: list[list[Box]]
    """Of the findings of each."""
    metal: npt.NDArray[np.bool_]
    """bool [N], whether one of them is metal."""


def main() -> int:
    """Measure and print; 1 if a map does not point to the findings."""
    known = yaml.safe_load(PARAMS.read_text())["train"]["candidates"]
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidate", nargs="+", default=list(known), choices=known)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--studies", type=int, default=800)
    parser.add_argument("--epochs", type=int, help="[default: those of params.yaml]")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    flags = parser.parse_args()
    with harness.folder() as folder:
        made = prepare(folder, flags.studies, flags.image_size, flags.epochs)
        found = {name: measure(made, name) for name in flags.candidate}
    margin = min(each["pointing"] - each["centre"] for each in found.values())
    result = {"image_size": flags.image_size, "candidates": found, "ratio": round(margin, 3)}
    columns = ("layer", "cells", "auroc", "pointing", "grad_cam", "cam", "centre", "chance", "metal")
    columns += ("away", "away_chance", "mirrored", "unmoved", "gone")
    rows = [(name, *(each[column] for column in columns)) for name, each in found.items()]
    title = f"maps of {next(iter(found.values()))['pictures']} tuning pictures without metal, {flags.image_size} px"
    harness.tell(result, title, [("candidate", *columns), *rows], flags.json)
    enough = found.get("custom_cnn", {"pointing": 1.0})["pointing"] >= FLOOR
    return 0 if margin > 0 and enough else 1


def prepare(folder: Path, studies: int, size: int, epochs: int | None) -> Path:
    """Draw a phantom and pack it. Return the directory with `phantom.zip`, `params.yaml` and `shards`."""
    document = yaml.safe_load(PARAMS.read_text())
    document["shard"]["image_size"] = size
    if epochs:
        for each in (document["train"]["default"], *document["train"]["candidates"].values()):
            each["epochs"] = epochs
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    (folder / "overlay.csv").write_text("study,old,new,source,reason\n")
    archive = folder / "phantom.zip"
    drawing = ("--studies", studies, "--seed", document["seed"], "--difficulty", document["phantom"]["difficulty"])
    harness.run([*harness.mura(), "--quiet", "phantom", "--out", archive, *drawing])
    read = ("--archive", "phantom.zip")
    step(folder, "ingest", *read, "--overlay", "overlay.csv", "--out", "manifest")
    step(folder, "validate", *read, "--manifest", "manifest", "--out", "valid")
    step(folder, "shard", *read, "--manifest", "valid", "--out", "shards")
    return folder


def step(folder: Path, *words: object) -> None:
    """Run a step with its section of the directory's params.yaml."""
    root = Path(__file__).parents[1]
    environment = os.environ | {"MLFLOW_TRACKING_URI": "off", "PYTHONPATH": str(root)}
    harness.run([*harness.mura(), *words], cwd=folder, environment=environment)


def measure(folder: Path, candidate: str) -> dict[str, Any]:
    """Train a candidate, and compare its maps with the truth."""
    step(folder, "train", "--shards", "shards", "--params", f"params.yaml:train.{candidate}", "--out", candidate)
    from components.artifacts.shards import Shards
    from components.artifacts.trained_model import TrainedModel
    from components.network import architectures, backend
    from components.network.grad_cam import GradCam

    backend.prepare()
    shards, model = Shards.read(folder / "shards"), TrainedModel.read(folder / candidate)
    pictures = with_findings(shards, folder / "phantom.zip")
    network = architectures.load(model)
    explained = GradCam(network)
    plain, size = ~pictures.metal, shards.facts.image_size
    middle = pointing(np.full((len(plain), 2), (size - 1) // 2), pictures.boxes)
    found: dict[str, Any] = {
        "layer": explained.layer,
        "cells": explained.shape[0],
        "pictures": int(plain.sum()),
        "auroc": round(model.facts.tuning["auroc"], 3),
    }
    for key, method, cells in MAPS.values():
        maps = (explained if cells is None else GradCam(network, cells)).maps(pictures.pixels, method)
        hit = pointing(peaks(maps), pictures.boxes)
        found[key] = round(float(hit[plain].mean()), 3)
        if key == "pointing":
            found["metal"] = round(float(hit[~plain].mean()), 3)
            other = explained.maps(pictures.pixels[:, :, ::-1])
            found["mirrored"] = correlation(other[plain, :, ::-1], maps[plain])
            found["unmoved"] = correlation(other[plain], maps[plain])
            away = plain & ~middle
            found["away"] = round(float(hit[away].mean()), 3)
            twins = healthy(pictures, yaml.safe_load((folder / "params.yaml").read_text()))
            found["gone"] = gone(maps[plain], explained.maps(twins), [pictures.boxes[i] for i in np.flatnonzero(plain)])
    covered = np.array([covering(boxes, size).mean() for boxes in pictures.boxes])
    found["centre"] = round(float(middle[plain].mean()), 3)
    found["chance"] = round(float(covered[plain].mean()), 3)
    found["away_chance"] = round(float(covered[plain & ~middle].mean()), 3)
    return found


def with_findings(shards: Any, archive: Path) -> Pictures:
    """The tuning pictures that show a finding."""
    from components.artifacts.manifest import TUNING
    from components.network import batches
    from components.phantom import truth

    rows: dict[str, list[Truth]] = defaultdict(list)
    for row in truth.read(truth.path_beside(archive)):
        rows[row.member].append(row)
    images = batches.read_split(shards, TUNING)
    chosen = [i for i, name in enumerate(images.image.tolist()) if name in rows]
    names = [str(images.image[i]) for i in chosen]
    with zipfile.ZipFile(archive) as members:
        sizes = [_size(members.read(name)) for name in names]
    boxes = [
        [in_square(row, *size, shards.facts.image_size) for row in rows[name]]
        for name, size in zip(names, sizes, strict=True)
    ]
    metal = np.array([any(row.metal for row in rows[name]) for name in names])
    return Pictures(names, np.asarray(images.pixels[np.array(chosen)]), boxes, metal)


def in_square(row: Truth, width: int, height: int, size: int) -> Box:
    """The box of a finding in the square, from the one in the stored picture. Pixels that it touches are in it."""
    from components.xray import square

    place = square.place(width, height, size)
    across, down = place.width / width, place.height / height
    return Box(
        place.left + int(np.floor(row.left * across)),
        place.top + int(np.floor(row.top * down)),
        place.left + int(np.ceil(row.right * across)),
        place.top + int(np.ceil(row.bottom * down)),
    )


def peaks(maps: Maps) -> npt.NDArray[np.int64]:
    """Row and column of the strongest place of each map, int64 [N, 2]."""
    flat = maps.reshape(len(maps), -1).argmax(axis=1)
    return np.stack(np.unravel_index(flat, maps.shape[1:]), axis=1)


def pointing(places: npt.NDArray[np.int64], boxes: Sequence[Sequence[Box]]) -> npt.NDArray[np.bool_]:
    """Whether each place lies in one of its boxes, bool [N].

    Args:
        places: rows and columns, int64 [N, 2].
        boxes: N lists of them.
    """
    return np.array(
        [
            any(box.left <= column < box.right and box.top <= row < box.bottom for box in found)
            for (row, column), found in zip(places.tolist(), boxes, strict=True)
        ],
        bool,
    )


def covering(boxes: Sequence[Box], size: int) -> npt.NDArray[np.bool_]:
    """Which pixels of a square lie in a box, bool [S, S]."""
    covered = np.zeros((size, size), bool)
    for box in boxes:
        covered[max(0, box.top) : box.bottom, max(0, box.left) : box.right] = True
    return covered


def gone(maps: Maps, twins: Maps, boxes: Sequence[Sequence[Box]]) -> float:
    """The median share of the map's sum within the boxes that the healthy twin lacks.

    Args:
        maps: of the pictures with findings, float32 [N, S, S].
        twins: of the same pictures without findings.
        boxes: of the findings.
    """
    inside = [covering(found, maps.shape[1]) for found in boxes]
    shares = [
        1 - float(twin[where].sum()) / float(found[where].sum())
        for found, twin, where in zip(maps, twins, inside, strict=True)
        if found[where].sum() > 0
    ]
    return round(float(np.median(shares)), 3)


def healthy(pictures: Pictures, params: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """The pictures without metal once more, without findings and otherwise the same: uint8 [N, S, S, 1]."""
    from components.phantom import plan, radiograph
    from components.xray import square

    planned = plan.plan(params["phantom"]["studies"], params["seed"])
    views = {
        member: radiograph.View(study, number, params["seed"], float(params["phantom"]["difficulty"]))
        for study in planned.studies
        for number, member in enumerate(study.images, 1)
    }
    size = pictures.pixels.shape[1]
    plain = [name for name, metal in zip(pictures.names, pictures.metal, strict=True) if not metal]
    twins = [square.fit(radiograph.draw(views[name], healthy=True)[0], size) for name in plain]
    return np.stack(twins)[..., None]


def correlation(one: Maps, other: Maps) -> float:
    """Mean correlation of maps, pair by pair over their pixels. A map that is the same everywhere has none."""
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(one, other, strict=True) if a.std() and b.std()]
    return round(float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])), 3)


def _size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG."""
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


if __name__ == "__main__":
    sys.exit(main())
