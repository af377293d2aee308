"""Images packed for training."""

from pathlib import Path

from components.artifacts.artifact import Artifact, Facts


class SplitFacts(Facts):
    """One split's counts and files."""

    images: int
    studies: int
    patients: int
    abnormal: int
    """Images of abnormal studies."""
    files: tuple[str, ...]
    """In reading order."""
    records: tuple[int, ...]
    """Images in each file."""
    digest: str
    """sha256 over studies, labels and the images' sha256: which questions, and which answers."""


class PartFacts(Facts):
    """Training images of one body part, by label."""

    normal: int
    abnormal: int


class ShardsFacts(Facts):
    """What every later step asks the shards."""

    image_size: int
    data_digest: str
    archive_md5: str | None = None
    splits: dict[str, SplitFacts]
    train_images: dict[str, PartFacts]
    """By body part: what the loss is weighted with."""


class Shards(Artifact[ShardsFacts]):
    """Images packed for training: raw uint8 squares in TFRecords.

    shards/
        index.json                          image size, counts, files, digests
        train-00000-of-00064.tfrecord ...   tf.train.Example: `image` is S*S bytes, row by row
        tuning-00000-of-00008.tfrecord ...
        test-00000-of-00008.tfrecord ...

    Every record holds `pixels` (bytes, S*S uint8), `image`, `study`, `patient`, `body_part` (bytes, UTF-8)
    and `abnormal` (int64).
    """

    FACTS = ShardsFacts
    CARD = "index.json"

    def files(self, split: str) -> list[Path]:
        """A split's TFRecord files in reading order."""
        return [self.path / name for name in self.facts.splits[split].files]
