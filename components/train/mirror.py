"""A copy of the checkpoint on S3, for machines that may be taken away.

s3://bucket/prefix/<inputs>/     one for each combination of inputs
    index.json                   the inputs; names, sizes and sha256 of the other files; written last, so they exist
    state.json, epoch-3.npz ...  the files of the checkpoint

The copy stays when the training is done: a pod may still be lost while its artifact is stored. A lifecycle rule of the
bucket removes old copies.
"""

import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from components.archive import s3
from components.artifacts.artifact import File
from components.base import patience, space
from components.base.errors import DataChanged, MuraError, UsageError, first_line, printable
from components.base.files import INPUTS

logger = logging.getLogger(__name__)

PLACE = "MURA_CHECKPOINTS"
_INDEX = "index.json"
# Largest index, bytes. A checkpoint has a handful of files.
_MOST = 1 << 20
# Files that are listed there. A checkpoint has a handful, and old ones are removed.
_MOST_FILES = 1_000
# A name that stays in the checkpoint, and is not that of the inputs.
_NAME = re.compile(rf"(?!{re.escape(INPUTS)}$)[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}")


class _Index(BaseModel, extra="forbid"):
    inputs: str
    files: dict[str, File]


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
        OutsideFailed: there is no room for the files.
        ServiceUnreachable: S3 does not answer. Starting anew would overwrite the checkpoint there.
    """
    place = _place(checkpoint)
    if place is None or any(path.name != INPUTS and not path.name.startswith(".") for path in checkpoint.iterdir()):
        return
    arriving = checkpoint.with_name(f".{checkpoint.name}.arriving")
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    try:
        tree = s3.Tree(place)
        files = _index(tree, _inputs(checkpoint))
        if files and (gone := files.items() - _there(tree, files).items()):
            raise ValueError(f"{min(gone)[0]} is missing, or has another size")
        space.require(checkpoint, sum(file.bytes for file in files.values()), f"the checkpoint of {place}")
        for name, file in files.items():
            _copy(s3.Place(place.bucket, f"{tree.place.key}{name}"), file, arriving / name)
        for name in files:
            (arriving / name).rename(checkpoint / name)
        if files:
            logger.info("checkpoint of %s files copied from %s", len(files), place)
    except (KeyError, ValueError, DataChanged) as error:
        logger.warning("%s: the checkpoint is damaged (%s); training starts anew", place, first_line(error))
    finally:
        shutil.rmtree(arriving)


def keep(checkpoint: Path) -> str | None:
    """Copy a checkpoint to S3. A failure is logged, and the training goes on; so S3 is not waited for.

    What is there and cannot be read, or is of other inputs, is told and written anew.

    Args:
        checkpoint: the directory, complete; its file `INPUTS` names the inputs.

    Returns:
        Where the copy is; None if there is none.
    """
    with patience.none():
        return _keep(checkpoint)


def is_set() -> bool:
    """Whether checkpoints have copies."""
    return bool(os.environ.get(PLACE))


def _keep(checkpoint: Path) -> str | None:
    try:
        place = _place(checkpoint)
        if place is None:
            return None
        tree, inputs = s3.Tree(place), _inputs(checkpoint)
        try:
            before = _index(tree, inputs)
            there = _there(tree, before)
        except ValueError as error:
            logger.warning(
                "%s: the copy of the checkpoint is damaged (%s); it is written anew", place, first_line(error)
            )
            before, there = {}, {}
        files = {
            path.name: File.of(path)
            for path in sorted(checkpoint.iterdir())
            if path.name != INPUTS and _NAME.fullmatch(path.name) and path.is_file()
        }
        for name, file in files.items():
            if there.get(name) != file:
                s3.put(s3.Place(place.bucket, tree.place.key + name), (checkpoint / name).read_bytes())
        index = _Index(inputs=inputs, files=files)
        s3.put(s3.Place(place.bucket, tree.place.key + _INDEX), index.model_dump_json().encode())
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
    return s3.place(f"{at.rstrip('/')}/{_inputs(checkpoint)}") if at else None


def _inputs(checkpoint: Path) -> str:
    return (checkpoint / INPUTS).read_text(encoding="utf-8")


def _index(tree: s3.Tree, inputs: str) -> dict[str, File]:
    """The files of a copy by name, as its index says.

    Raises:
        ValueError: the index is damaged, or of other inputs.
    """
    try:
        text = tree.read(_INDEX, _MOST)
    except KeyError:
        return {}
    try:
        index = _Index.model_validate_json(text or b"")
    except ValidationError as error:
        raise ValueError(f"{_INDEX}: {error.errors()[0]['msg']}") from error
    if strange := [name for name in index.files if not _NAME.fullmatch(name)]:
        raise ValueError(f"{_INDEX}: no file of a checkpoint has the name {printable(strange[0][:100])}")
    if index.inputs != inputs:
        raise ValueError(f"{_INDEX}: it is of other inputs, {printable(index.inputs[:64])}")
    return index.files


def _there(tree: s3.Tree, files: Mapping[str, File]) -> dict[str, File]:
    """Those of the files that are on S3 with their size."""
    sizes = {name: size for name, size in tree.files(_MOST_FILES) if name in files}
    return {name: file for name, file in files.items() if sizes.get(name) == file.bytes}


def _copy(place: s3.Place, file: File, to: Path) -> None:
    """Copy a file from S3.

    Raises:
        KeyError: there is none.
        ValueError: it has changed since it was stored.
    """
    found = s3.Object.find(place)
    if found is None:
        raise KeyError(to.name)
    with found as content, to.open("wb") as copy:
        for piece in content.pieces() if content.size == file.bytes else ():
            copy.write(piece)
    if File.of(to) != file:
        raise ValueError(f"{to.name} has changed since it was stored")
