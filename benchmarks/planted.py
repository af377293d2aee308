"""The share of planted faults that validation finds, by kind, and its false alarms on a clean archive.

    python -m benchmarks.planted [--images 5000] [--planted 50] [--archive phantom.zip] [--json]

A clean phantom is ingested and validated. Then faults of each kind are planted into it, each into a study of its own,
and it is ingested and validated again. A fault is found if its expectation names the image, study or patient. Changed
copies are found if they are named with their originals.

A false alarm is an image of the clean archive that an expectation about pictures or copies names. The phantom draws one
picture in a hundred as a negative, on purpose. Naming these is no false alarm; they are counted separately. With
--archive they are not known, and all count as false alarms. `ratio` is the recall over all exact kinds.
"""

import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd

from benchmarks import harness
from benchmarks.duplicates import kinds as copies
from components.artifacts.manifest import DUPLICATES, OFFENDERS
from components.phantom import film, radiograph
from components.phantom.plan import plan
from components.xray.png import Grey, decode

ABOUT_PICTURES = ("picture_", "near_", "not_", "contrast", "aspect", "channels_agree")
# As `harness.draw` draws them.
SEED, DIFFICULTY = 1, 0.2


class Archive:
    """A zip into which faults are planted."""

    def __init__(self, source: zipfile.ZipFile) -> None:
        """Read the lists of a zip."""
        self.source = source
        self.content: dict[str, bytes | str] = {}
        """The content of a member: bytes, or the name of a member of the source."""
        self.listed: list[str] = []
        self.labels: dict[str, int] = {}
        for name in source.namelist():
            if name.endswith(".csv"):
                for line in source.read(name).decode().split():
                    path, _, label = line.partition(",")
                    if label:
                        self.labels[path.rstrip("/")] = int(label)
                    else:
                        self.listed.append(path)
            else:
                self.content[name] = name

    def png(self, member: str) -> bytes:
        """The original file."""
        return self.source.read(member)

    def grey(self, member: str) -> Grey:
        """The original pixels, uint8 [height, width]."""
        return decode(self.png(member)).grey

    def move(self, old: str, new: str) -> None:
        """Rename an image, also in the lists."""
        self.content[new] = self.content.pop(old)
        self.listed[self.listed.index(old)] = new
        study = new.rpartition("/")[0]
        self.labels.setdefault(study, self.labels[old.rpartition("/")[0]])

    def add(self, member: str, png: bytes) -> str:
        """Add an image, also to the lists, with the label of its directory."""
        study = member.rpartition("/")[0]
        self.content[member] = png
        self.listed.append(member)
        self.labels.setdefault(study, int(study.endswith("positive")))
        return member

    def write(self, path: Path) -> None:
        """Write the zip, with its lists."""
        root = self.listed[0].partition("/")[0]
        with zipfile.ZipFile(path, "w") as made:
            for name, content in self.content.items():
                made.writestr(name, self.png(content) if isinstance(content, str) else content)
            for split in ("train", "valid"):
                mine = f"{root}/{split}/"
                listed = [f"{name}\n" for name in self.listed if name.startswith(mine)]
                made.writestr(f"{root}/{split}_image_paths.csv", "".join(listed))
                labelled = [f"{name}/,{label}\n" for name, label in self.labels.items() if name.startswith(mine)]
                made.writestr(f"{root}/{split}_labeled_studies.csv", "".join(labelled))


class Kind(NamedTuple):
    """A kind of fault."""

    expectation: str
    """The expectation that finds it. Several, separated by blanks, if chance decides which one."""
    plant: Callable[[Archive, str], set[str]]
    """Changes an image, its study or patient. Returns the names under which it may be reported."""


def main() -> None:
    """Plant, validate and print."""
    parser = harness.parser(__doc__ or "", images=5_000)
    parser.add_argument("--planted", type=int, default=50, help="faults of every kind [default: %(default)s]")
    flags = parser.parse_args()
    with harness.folder() as here:
        source = (flags.archive or harness.draw(here / "phantom.zip", flags.images)).absolute()
        clean = harness.part(source, flags.images, here / "clean.zip")
        alarms, negatives = _alarms(_validated(clean, here), drawn=None if flags.archive else source)
        spoiled = here / "spoiled.zip"
        with zipfile.ZipFile(clean) as whole:
            planted, near = _plant(Archive(whole), spoiled, flags.planted)
        found = _validated(spoiled, here)
        n_images = len(harness.images_in(clean))
    offenders, pairs = found
    named = {name: set(rows["key"].dropna()) for name, rows in offenders.groupby("expectation")}

    def told(expectations: str) -> set[str]:
        return set().union(*(named.get(name, set()) for name in expectations.split()))

    recall = {
        name: sum(bool(keys & told(KINDS[name].expectation)) for keys in mine) / len(mine)
        for name, mine in planted.items()
    }
    together = {frozenset(pair) for pair in zip(pairs["first"], pairs["second"], strict=True)}
    near_recall = {name: sum(pair in together for pair in mine) / len(mine) for name, mine in near.items()}
    result = {
        "images": n_images,
        "planted": min(len(mine) for mine in planted.values()),
        "recall": recall,
        "near_recall": near_recall,
        "false_alarms": alarms,
        "false_alarm_share": round(len(alarms) / n_images, 5),
        "negatives_drawn_and_named": negatives,
        "ratio": round(sum(recall.values()) / len(recall), 4),
    }
    rows: list[tuple[object, ...]] = [("fault", "expectation", "recall")]
    rows += [(name, KINDS[name].expectation, f"{share:.0%}") for name, share in recall.items()]
    rows += [(name, "near_picture_*", f"{share:.0%}") for name, share in near_recall.items()]
    rows += [("false alarms, clean", f"of {n_images:,} images", f"{len(alarms)}")]
    rows += [("negatives, clean", "not_inverted", f"{negatives}")]
    harness.tell(result, f"{result['planted']} faults of each kind among {n_images:,} images", rows, flags.json)


def _validated(archive: Path, here: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What validation finds in an archive, accepted or refused: offenders and pairs of copies."""
    mura = [*harness.mura(), "--quiet"]
    manifest, out = here / f"{archive.stem}-manifest", here / archive.stem
    harness.run([*mura, "ingest", "--archive", archive, "--seed", "1", "--out", manifest])
    # Refused data is what this is about: exit code 3.
    words = [*mura, "validate", "--archive", archive, "--manifest", manifest, "--out", out]
    code = subprocess.run([str(word) for word in words], stdout=sys.stderr).returncode
    if code not in (0, 3):
        raise subprocess.CalledProcessError(code, words)
    reports = out if code == 0 else out.with_name(f"{out.name}.refused")
    return pd.read_parquet(reports / OFFENDERS), pd.read_parquet(reports / DUPLICATES)


def _alarms(found: tuple[pd.DataFrame, pd.DataFrame], drawn: Path | None) -> tuple[list[str], int]:
    """Images that were named without cause, and how many negatives were named with it."""
    offenders, _ = found
    named = offenders[offenders["expectation"].str.startswith(ABOUT_PICTURES) & (offenders["unit"] == "image")]
    members = sorted(set(named["key"]))
    if drawn is None:
        return members, 0
    with zipfile.ZipFile(drawn) as whole:
        lists = [name for name in whole.namelist() if name.endswith("labeled_studies.csv")]
        studies = sum(len(whole.read(name).split()) for name in lists)
    negatives = _negatives(set(named.loc[named["expectation"] == "not_inverted", "key"]), studies)
    return [member for member in members if member not in negatives], len(negatives)


def _negatives(members: set[str], studies: int) -> set[str]:
    """The phantom's images that are drawn as negatives."""
    found: set[str] = set()
    develop = film.develop
    exposures: list[film.Exposure] = []

    def note(scene: film.Scene, _: Any) -> Grey:
        exposures.append(scene.exposure)
        return np.zeros((1, 1), np.uint8)

    film.develop = note  # only the exposure is needed
    try:
        for study in plan(studies, SEED).studies:
            for view, member in enumerate(study.images, 1):
                if member in members:
                    radiograph.draw(radiograph.View(study, view, SEED, DIFFICULTY))
                    if exposures.pop().inverted:
                        found.add(member)
    finally:
        film.develop = develop
    return found


def _plant(
    archive: Archive, path: Path, planted: int
) -> tuple[dict[str, list[set[str]]], dict[str, list[frozenset[str]]]]:
    """Plant every fault into a study of its own, and write the zip."""
    drawn = random.Random(1)
    studies: dict[str, list[str]] = {}
    for member in archive.listed:
        if "/train/" in member:
            studies.setdefault(member.rpartition("/")[0], []).append(member)
    every = [members[0] for members in studies.values()]
    drawn.shuffle(every)
    planted = min(planted, len(every) // (len(KINDS) + 2))
    exact = {}
    for name, kind in KINDS.items():
        targets, every = every[:planted], every[planted:]
        exact[name] = [kind.plant(archive, member) for member in targets]
    near: dict[str, list[frozenset[str]]] = {}
    for name, copy in copies(drawn).items():
        if name == "same pixels":
            continue
        near[name] = []
        for member in drawn.sample(every, planted):
            other = archive.add(_elsewhere(archive, member), _png(copy(archive.grey(member))))
            near[name].append(frozenset((member, other)))
    archive.write(path)
    return exact, near


def _png(pixels: Any) -> bytes:
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels))
    assert done, "OpenCV encodes every uint8 and uint16 image"
    return encoded.tobytes()


def _elsewhere(archive: Archive, member: str, split: str = "valid", label: str | None = None) -> str:
    """A place for another image of the same body part, of a patient that is not yet there."""
    root, _, part, _, study, _ = member.split("/")
    label = label or study.rpartition("_")[2]
    return f"{root}/{split}/{part}/patient{50_000 + len(archive.listed)}/study1_{label}/image1.png"


def _spoiled(change: Callable[[Archive, str], bytes]) -> Callable[[Archive, str], set[str]]:
    """The image's own file is changed."""

    def plant(archive: Archive, member: str) -> set[str]:
        archive.content[member] = change(archive, member)
        return {member}

    return plant


def _lost(archive: Archive, member: str) -> set[str]:
    del archive.content[member]
    return {member}


def _unlisted(archive: Archive, member: str) -> set[str]:
    archive.listed.remove(member)
    return {member}


def _renamed(change: Callable[[str], str]) -> Callable[[Archive, str], set[str]]:
    def plant(archive: Archive, member: str) -> set[str]:
        archive.move(member, change(member))
        return {change(member)}

    return plant


def _twice(archive: Archive, member: str) -> set[str]:
    other = member.replace("/image", "/image0")
    return {member, archive.add(other, _png(np.rot90(archive.grey(member))))}


def _contradicting(archive: Archive, member: str) -> set[str]:
    study = member.rpartition("/")[0]
    archive.labels[study] = 1 - archive.labels[study]
    return {member}


def _unlabelled(archive: Archive, member: str) -> set[str]:
    del archive.labels[member.rpartition("/")[0]]
    return {member}


def _both_labels(archive: Archive, member: str) -> set[str]:
    study = member.rpartition("/")[0]
    swapped = study.replace("positive", "x").replace("negative", "positive").replace("x", "negative")
    archive.add(f"{swapped}/image1.png", _png(np.rot90(archive.grey(member))))
    return {study, swapped}


def _in_both_splits(archive: Archive, member: str) -> set[str]:
    patient = member.split("/")[3]
    place = member.replace("/train/", "/valid/").replace("/study", "/study9")
    archive.add(place, _png(np.rot90(archive.grey(member))))
    return {patient}


def _again(split: str, other_label: bool = False) -> Callable[[Archive, str], set[str]]:
    """The same pixels in another file, of another patient."""

    def plant(archive: Archive, member: str) -> set[str]:
        label = member.split("/")[4].rpartition("_")[2]
        if other_label:
            label = {"positive": "negative", "negative": "positive"}[label]
        # Another compression, other bytes.
        other = cv2.imencode(".png", archive.grey(member), [cv2.IMWRITE_PNG_COMPRESSION, 5])[1].tobytes()
        return {member, archive.add(_elsewhere(archive, member, split, label), other)}

    return plant


def _flipped_bit(archive: Archive, member: str) -> bytes:
    png = bytearray(archive.png(member))
    png[len(png) // 2] ^= 1
    return bytes(png)


def _palette(archive: Archive, member: str) -> bytes:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(archive.grey(member)).convert("RGB").quantize(64).save(file, "PNG")
    return file.getvalue()


def _stamp(archive: Archive, member: str) -> bytes:
    """The picture at a quarter of its size, in the middle of a black plate as large as it was."""
    grey = archive.grey(member)
    plate = np.zeros_like(grey)
    small = cv2.resize(grey, (grey.shape[1] // 4, grey.shape[0] // 4), interpolation=cv2.INTER_AREA)
    top, left = 3 * grey.shape[0] // 8, 3 * grey.shape[1] // 8
    plate[top : top + small.shape[0], left : left + small.shape[1]] = small
    return _png(plate)


def _marked(archive: Archive, member: str) -> bytes:
    colours = cv2.cvtColor(archive.grey(member), cv2.COLOR_GRAY2BGR)
    cv2.circle(colours, (colours.shape[1] // 2, colours.shape[0] // 2), 30, (0, 0, 255), 2)
    return _png(colours)


def _faint(archive: Archive, member: str) -> bytes:
    return _png((100 + archive.grey(member).astype(np.float32) * 20 / 255).astype(np.uint8))


def _resized(width: int, height: int) -> Callable[[Archive, str], bytes]:
    return lambda archive, member: _png(cv2.resize(archive.grey(member), (width, height), interpolation=cv2.INTER_AREA))


KINDS = {
    "listed, not there": Kind("found", _lost),
    "there, not listed": Kind("listed", _unlisted),
    "misnamed": Kind("path", _renamed(lambda name: name.replace("/image", "/picture"))),
    "unknown body part": Kind(
        "body_part", _renamed(lambda name: "/".join([*name.split("/")[:2], "XR_KNEE", *name.split("/")[3:]]))
    ),
    "one view in two files": Kind("place_once", _twice),
    "cut short": Kind("decodes", _spoiled(lambda a, m: a.png(m)[: len(a.png(m)) // 2])),
    "one bit flipped": Kind("decodes", _spoiled(_flipped_bit)),
    "empty file": Kind("decodes", _spoiled(lambda _, __: b"")),
    "text": Kind("decodes", _spoiled(lambda _, __: b"404 not found\n")),
    "JPEG by content": Kind("decodes", _spoiled(lambda a, m: cv2.imencode(".jpg", a.grey(m))[1].tobytes())),
    "label against directory": Kind("label_agrees", _contradicting),
    "study without label": Kind("labelled", _unlabelled),
    "study with both labels": Kind("study_has_one_label", _both_labels),
    "patient in both splits": Kind("patient_in_one_split", _in_both_splits),
    "transparent": Kind("mode", _spoiled(lambda a, m: _png(cv2.cvtColor(a.grey(m), cv2.COLOR_GRAY2BGRA)))),
    "16 bits": Kind("mode", _spoiled(lambda a, m: _png(a.grey(m).astype(np.uint16) * 257))),
    "palette": Kind("mode", _spoiled(_palette)),
    "tiny": Kind("min_side", _spoiled(_resized(40, 40))),
    "oversized": Kind("max_side", _spoiled(_resized(4_200, 900))),
    "strip": Kind("aspect", _spoiled(_resized(512, 80))),
    "blank": Kind("not_blank", _spoiled(lambda a, m: _png(np.full_like(a.grey(m), 90)))),
    "faint": Kind("contrast", _spoiled(_faint)),
    "stamp on a black plate": Kind("not_mostly_frame", _spoiled(_stamp)),
    "negative": Kind("not_inverted", _spoiled(lambda a, m: _png(255 - a.grey(m)))),
    "coloured marks": Kind("channels_agree", _spoiled(_marked)),
    "same pixels in test": Kind("picture_in_one_split", _again("valid")),
    "same pixels, other label": Kind("picture_has_one_label", _again("train", other_label=True)),
    # Either patient may be set aside for tuning, and then it is in two splits.
    "same pixels, other patient": Kind("picture_of_one_patient picture_in_one_split", _again("train")),
}


if __name__ == "__main__":
    main()
