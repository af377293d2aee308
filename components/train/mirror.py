"""A checkpoint's second home on S3, for work on a machine that may be taken away.

s3://bucket/prefix/<inputs>/     one for each combination of inputs, whoever works on it
    index.json                   names, sizes and sha256 of the others; written last, so it promises what is there
    state.json, epoch-3.npz ...  the files of the checkpoint

What has become an artifact leaves its checkpoint here: a pod may still be lost while its artifact is stored. A rule of
the bucket removes what is old.
"""

import json
import logging
import os
import shutil
from pathlib import Path

from components.archive import s3
from components.artifacts.artifact import File
from components.base.errors import DataChanged, MuraError
from components.base.files import INPUTS, file_sha256

logger = logging.getLogger(__name__)

PLACE = "MURA_CHECKPOINTS"
_INDEX = "index.json"
# Of an index; a checkpoint has a handful of files.
_MOST = 1 << 20


def fetch(checkpoint: Path) -> None:
    """Bring a checkpoint of the same inputs here, if there is one and the directory has none of its own.

    Args:
        checkpoint: a directory that knows its inputs.

    Raises:
        UsageError: MURA_CHECKPOINTS is no place on S3, or may not be read.
        ServiceUnreachable: S3 does not answer. To begin anew would throw away what is there.
    """
    place = _place(checkpoint)
    if place is None or any(path.name != INPUTS for path in checkpoint.iterdir()):
        return
    arriving = checkpoint.with_name(f".{checkpoint.name}.arriving")
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    try:
        tree = s3.Tree(place)
        files = _index(tree)
        for name, file in files.items():
            found = s3.Object.find(s3.Place(place.bucket, f"{tree.place.key}{name}"))
            if found is None:
                raise KeyError(name)
            with found as content, (arriving / name).open("wb") as copy:
                for piece in content.pieces():
                    copy.write(piece)
            if file_sha256(arriving / name) != file.sha256:
                raise ValueError(f"{name} is not as it was stored")
        for name in files:
            (arriving / name).rename(checkpoint / name)
        if files:
            logger.info("checkpoint of %s files brought from %s", len(files), place)
    except (KeyError, ValueError, DataChanged) as error:
        logger.warning("%s: no whole checkpoint (%s); beginning anew", place, error)
    finally:
        shutil.rmtree(arriving)


def keep(checkpoint: Path) -> None:
    """Store a checkpoint; what goes wrong is told and does no harm, since the work itself goes on.

    Args:
        checkpoint: a directory that knows its inputs, complete, and not written to meanwhile.
    """
    try:
        place = _place(checkpoint)
        if place is None:
            return
        tree = s3.Tree(place)
        before = _index(tree)
        files = {
            path.name: File(bytes=path.stat().st_size, sha256=file_sha256(path))
            for path in sorted(checkpoint.iterdir())
            if path.name != INPUTS
        }
        for name, file in files.items():
            if before.get(name) != file:
                s3.put(s3.Place(place.bucket, tree.place.key + name), (checkpoint / name).read_bytes())
        index = {name: file.model_dump() for name, file in files.items()}
        s3.put(s3.Place(place.bucket, tree.place.key + _INDEX), json.dumps(index).encode())
        for name in before.keys() - files.keys():
            s3.remove(s3.Place(place.bucket, tree.place.key + name))
    except (MuraError, ValueError) as error:
        logger.warning("the checkpoint is not stored, the work goes on: %s", error)


def _place(checkpoint: Path) -> s3.Place | None:
    """Where the checkpoints of these inputs are; None where nobody has said where checkpoints go."""
    at = os.environ.get(PLACE)
    if not at:
        return None
    return s3.place(f"{at.rstrip('/')}/{(checkpoint / INPUTS).read_text()}")


def _index(tree: s3.Tree) -> dict[str, File]:
    try:
        text = tree.read(_INDEX, _MOST)
    except KeyError:
        return {}
    files = {name: File.model_validate(file) for name, file in json.loads(text or b"").items()}
    if any("/" in name or name.startswith(".") for name in files):
        raise ValueError("names outside the checkpoint")
    return files
