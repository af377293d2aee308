"""How images are packed."""

from pydantic import Field

from components.params.section import Section


class ShardParams(Section):
    """How images are packed."""

    image_size: int = Field(ge=32, le=1024, description="Side of the square image, pixels")
    images_per_shard: int = Field(gt=0, description="Images in one TFRecord file")
