"""How one network is trained."""

from typing import Literal

from pydantic import Field

from components.params.section import Section

Architecture = Literal["custom_cnn", "vgg16", "vgg19", "inception_v3"]


class TrainParams(Section):
    """How one network is trained."""

    architecture: Architecture = Field(description="In params.yaml the name of the entry")
    weights: str = Field(description="none, imagenet, or a .weights.h5 file of the backbone")
    epochs: int = Field(gt=0, description="Most epochs over all layers")
    head_epochs: int = Field(ge=0, description="Epochs of the head alone, before; for pretrained weights")
    batch_size: int = Field(gt=0, description="Images in a step")
    learning_rate: float = Field(gt=0, description="Peak, for all layers; Adam")
    head_learning_rate: float = Field(gt=0, description="Peak, for the head alone")
    warmup: float = Field(ge=0, lt=1, description="Share of the steps in which the learning rate rises to its peak")
    weight_decay: float = Field(ge=0, description="Decoupled, as in AdamW")
    dropout: float = Field(ge=0, lt=1, description="Before the last layer")
    patience: int = Field(gt=0, description="Epochs without a better tuning AUROC before training stops")
    class_weighting: Literal["body_part", "none"] = Field(
        description="Weighted binary cross-entropy per body part, as MURA's authors do (arXiv:1712.06957), or plain"
    )
    flip: bool = Field(description="Random horizontal flips")
    rotation: float = Field(ge=0, le=180, description="Random rotations up to so many degrees either way")
    batch_norm_momentum: float = Field(gt=0, lt=1, description="Of the running statistics; unused without batch norm")
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        description="Of the arithmetic; auto is bfloat16 where the hardware multiplies it, else float32"
    )
    residence: Literal["auto", "memory", "disk", "device"] = Field(
        description="Where the training images are held; auto is in memory if half of what is free suffices, else on "
        "disk; device is the GPU's memory"
    )
