"""A copy of the checkpoint on S3, for machines that may be taken away.

s3://bucket/prefix/<inputs>/     one for each combination of inputs
    index.json                   names, sizes and sha256 of the other files; written last, so they exist
    state.json, epoch-3.npz ...  the files of the checkpoint

The copy stays when the training is done: a pod may still be lost while its artifact is stored. A lifecycle rule of the
bucket removes old copies.
"""

import json
import logging
import os
import shutil
from pathlib import Path

from components.archive import s3
from components.artifacts.artifact import File
from components.base import patience
from components.base.errors import DataChanged, MuraError, UsageError
from components.base.files import INPUTS, file_sha256

logger = logging.getLogger(__name__)

PLACE = "MURA_CHECKPOINTS"
_INDEX = "index.json"
# Largest index, bytes. A checkpoint has a handful of files.
_MOST = 1 << 20


def check_place() -> None:
    """Check that MURA_CHECKPOINTS is a place on S3, if it is set.

    Raises:
        UsageError: it is not.
    """
    if at := os.environ.get(PLACE):
        try:
            s3.place(at)
        except UsageError as error:
            raise UsageError(f"{PLACE}: {error}") from error


def fetch(checkpoint: Path) -> None:
    """Copy the checkpoint of the same inputs into an empty directory, if there is one.

    Args:
        checkpoint: the directory; its file `INPUTS` names the inputs. Nothing happens if it has a checkpoint.

    Raises:
        UsageError: MURA_CHECKPOINTS is not a place on S3, or access is denied.
        ServiceUnreachable: S3 does not answer. Starting anew would overwrite the checkpoint there.
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
                raise ValueError(f"{name} has changed since it was stored")
        for name in files:
            (arriving / name).rename(checkpoint / name)
        if files:
            logger.info("checkpoint of %s files copied from %s", len(files), place)
    except (KeyError, ValueError, DataChanged) as error:
        logger.warning("%s: the checkpoint is damaged (%s); training starts anew", place, error)
    finally:
        shutil.rmtree(arriving)


def keep(checkpoint: Path) -> str | None:
    """Copy a checkpoint to S3. A failure is logged, and the training goes on; so S3 is not waited for.

    Args:
        checkpoint: the directory, complete; its file `INPUTS` names the inputs.

    Returns:
        Where the copy is; None if there is none.
    """
    with patience.none():
        return _keep(checkpoint)


def _keep(checkpoint: Path) -> str | None:
    try:
        place = _place(checkpoint)
        if place is None:
            return None
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
        return str(place)
    except (MuraError, ValueError) as error:
        logger.warning("the checkpoint is not copied to S3, the training goes on: %s", error)
        return None


def _place(checkpoint: Path) -> s3.Place | None:
    """Where the checkpoints of these inputs are; None if MURA_CHECKPOINTS is not set."""
    check_place()
    at = os.environ.get(PLACE)
    if not at:
        return None
    return s3.place(f"{at.rstrip('/')}/{(checkpoint / INPUTS).read_text(encoding='utf-8')}")


def _index(tree: s3.Tree) -> dict[str, File]:
    try:
        text = tree.read(_INDEX, _MOST)
    except KeyError:
        return {}
    files = {name: File.model_validate(file) for name, file in json.loads(text or b"").items()}
    if any("/" in name or name.startswith(".") for name in files):
        raise ValueError("names outside the checkpoint")
    return files
