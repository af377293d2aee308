"""Pack the images of a data set for training."""

from pathlib import Path

from components.archive.archive import Archive
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.params.shard import ShardParams


def shard(archive: Archive, manifest: ValidManifest, params: ShardParams, out: Path) -> Shards:
    """Decode every image, fit it to a square and pack the squares into TFRecord files.

    The same archive and parameters give the same bytes, whatever the number of workers. Files that are complete wait
    in the checkpoint: killed and started again, the same command goes on with the next.

    Args:
        archive: the archive that the manifest describes.
        manifest: proven rows.
        params: image size and images per file.
        out: where the shards are written; holds the checkpoint until then.

    Raises:
        DataRefused: an image is not the one that was validated.
    """
    from components.shard import packing

    return packing.run(archive, manifest, params, out)
