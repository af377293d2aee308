"""Pack the images of a data set for training.

packing.py      the step: the files of file_plan.py, the index
shard_parts.py  a share of the files, and the shards of all shares
records.py      what a worker does: one file
tfrecord.py     the file format, without TensorFlow
verify.py       `mura shards verify`: everything that can be wrong with shards
show.py         `mura shards show`: counts and a contact sheet
"""

from pathlib import Path

from components.archive.archive import Archive
from components.artifacts.manifest import ValidManifest
from components.artifacts.parts import ShardsPart
from components.artifacts.shards import Shards
from components.base.part import Part
from components.base.step import Declaration
from components.params.shard import ShardParams


def shard(archive: Archive, manifest: ValidManifest, params: ShardParams, out: Path) -> Shards:
    """Decode every image, fit it into a square and pack the squares into TFRecord files.

    The same archive and parameters give the same bytes for any number of workers. Complete files stay in the
    checkpoint: a killed command continues with the next file when it is started again.

    Args:
        archive: the archive that the manifest describes.
        manifest: validated rows.
        params: image size and images per file.
        out: the directory of the shards. It contains the checkpoint until the step ends.

    Raises:
        DataRefused: an image is not the one that was validated.
    """
    from components.shard import packing

    return packing.run(archive, manifest, params, out)


def shard_part(archive: Archive, manifest: ValidManifest, params: ShardParams, part: Part, out: Path) -> ShardsPart:
    """Pack a share of the files. `mura merge` makes the shards of all shares.

    Of the archive, the table of contents and the images of this share are read.

    Args:
        archive: as for `shard`.
        manifest: as for `shard`.
        params: as for `shard`.
        part: which share of the files, in reading order.
        out: the directory of the part. It contains the checkpoint until the step ends.

    Raises:
        DataRefused: as `shard`.
    """
    from components.shard import shard_parts

    return shard_parts.run(archive, manifest, params, part, out)


def merge_shards(parts: list[ShardsPart], out: Path) -> Shards:
    """Make the shards of all their parts: the same, to the byte, as `shard` makes in one run.

    Args:
        parts: all of them.
        out: the directory of the shards.

    Raises:
        DataRefused: a part is missing, there twice, or does not belong to the others.
    """
    from components.shard import shard_parts

    return shard_parts.merge(parts, out)


DECLARES = Declaration(part=shard_part)
