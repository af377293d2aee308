"""Pack the images of a data set for training.

packing.py      the step: files and their rows, the index
records.py      what a worker does: one file
tfrecord.py     the file format, without TensorFlow
verify.py       `mura shards verify`: everything that can be wrong with shards
show.py         `mura shards show`: counts and a contact sheet
"""

from pathlib import Path

from components.archive.archive import Archive
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
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
