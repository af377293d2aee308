"""The zip of MURA's layout: pictures, MURA's four lists, and what else is kept of the images.

    own/train/XR_KNEE/patient000012345678901/study000000000000017_negative/image1.png
    own/train_image_paths.csv, train_labeled_studies.csv, valid_...
    own/about_images.csv

Dates in it are fixed, so the same files, labels, choices and key give the same bytes.
"""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from components.archive import about_images, zip_entry
from components.own_data.arrangement import ROOT, LeftOut, Study, View
from components.own_data.kept import OTHER, common
from components.own_data.source_files import Drawn


class Written(NamedTuple):
    """What the archive has."""

    studies: Sequence[Study]
    """With the views whose pictures could be taken."""
    burned_in: int
    """Pictures whose files say that they may show the patient's name."""
    not_said: int
    """Pictures whose files do not say whether they do."""


def views(studies: Iterable[Study]) -> Iterator[tuple[Study, View]]:
    """All views in the order of their members."""
    return ((study, view) for study in studies for view in study.views)


def write(
    path: Path,
    studies: Sequence[Study],
    drawn: Iterable[Drawn],
    kept: Sequence[str],
    without_burned_in: bool,
    left_out: list[LeftOut],
) -> Written:
    """Write the zip.

    Args:
        path: the file.
        studies: ascending by their directories.
        drawn: the pictures of their views, in order.
        kept: columns of KEPT that views have.
        without_burned_in: whether pictures are left out whose files say that they may show a name.
        left_out: gets what is left out.
    """
    taken: dict[str, list[View]] = {}
    burned_in = not_said = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        for (study, view), picture in zip(views(studies), drawn, strict=True):
            if why := why_not(picture, without_burned_in):
                left_out.append(LeftOut(None, view.file, study.hashed, why))
                continue
            burned_in += picture.burned_in is True
            not_said += picture.burned_in is None
            zip_entry.add(made, view.member, picture.png)
            taken.setdefault(study.folder, []).append(view)
        found = [study._replace(views=tuple(taken[study.folder])) for study in studies if study.folder in taken]
        for member, content in texts(found, kept):
            zip_entry.add(made, member, content)
    return Written(found, burned_in, not_said)


def why_not(picture: Drawn, without_burned_in: bool) -> str:
    """Why a picture is left out. Empty if it is taken."""
    if not picture.why and picture.burned_in and without_burned_in:
        return "its file says that the picture may show the patient's name"
    return picture.why


def texts(studies: Sequence[Study], kept: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The lists by their names in the archive, in their order."""
    for name, text in (*_lists(studies), (about_images.FILE, _about(studies, kept))):
        yield f"{ROOT}/{name}", text.encode()


def _lists(studies: Sequence[Study]) -> Iterator[tuple[str, str]]:
    """MURA's lists: no header, studies with a slash at the end."""
    for split in ("train", "valid"):
        own = [study for study in studies if study.split == split]
        yield f"{split}_image_paths.csv", "".join(f"{view.member}\n" for _, view in views(own))
        yield f"{split}_labeled_studies.csv", "".join(f"{study.folder}/,{study.label}\n" for study in own)


def _about(studies: Sequence[Study], kept: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([about_images.IMAGE, about_images.BODY_PART, *kept])
    usual = [common((study.patient, view.kept[place]) for study, view in views(studies)) for place in range(len(kept))]
    for study, view in views(studies):
        values = [
            value if value in known or not value else OTHER for value, known in zip(view.kept, usual, strict=True)
        ]
        writer.writerow([view.member, study.part, *values])
    return text.getvalue()
