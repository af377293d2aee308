"""How the candidates are trained: a default, and what each candidate changes of it."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, create_model, model_validator
from pydantic.fields import FieldInfo

from components.base import names
from components.params.section import Section

Architecture = Literal["custom_cnn", "vgg16", "vgg19", "inception_v3"]
Residence = Literal["auto", "memory", "disk"]
TITLES: dict[str, str] = {
    "custom_cnn": "custom CNN", "vgg16": "VGG-16", "vgg19": "VGG-19", "inception_v3": "Inception V3",
}  # fmt: skip
"""Architectures as people write them."""
WITHOUT_BATCH_NORM = ("vgg16", "vgg19")
WITHOUT = ("shrinkage", "clip_norm", "averaging", "dropout", "rotation", "zoom", "shift", "brightness", "contrast")
"""Choices that leave a part of the training out where they are 0."""


def _printable_everywhere(name: str) -> str:
    if len(name) > names.LONGEST or not re.fullmatch(names.PATTERN, name):
        raise ValueError("expected 1 to 40 of a-z, 0-9 and single _ between them, and a letter first")
    return name


CandidateName = Annotated[str, AfterValidator(_printable_everywhere)]
"""Name of a candidate: of a network, or of an ensemble."""


class TrainParams(Section):
    """How one network is trained."""

    candidate: CandidateName = Field(description="Name of the candidate; in params.yaml the key of its entry")
    architecture: Architecture = Field(description="custom_cnn, vgg16, vgg19 or inception_v3")
    weights: str = Field(description="none, imagenet, or a .weights.h5 file of the backbone")
    epochs: int = Field(gt=0, description="Epochs with all layers, at most")
    head_epochs: int = Field(ge=0, description="Epochs with the head alone, first; only for pretrained weights")
    batch_size: int = Field(gt=0, description="Images in one step")
    learning_rate: float = Field(gt=0, description="Highest learning rate with all layers (AdamW)")
    head_learning_rate: float = Field(gt=0, description="Highest learning rate with the head alone")
    warmup: float = Field(ge=0, lt=1, description="Share of the steps in which the learning rate rises")
    shrinkage: float = Field(
        ge=0,
        lt=1,
        description="AdamW's weight decay: share of itself that a weight without gradient loses over the training",
    )
    clip_norm: float = Field(
        ge=0, description="Largest norm of a step's gradient, to which larger are cut; 0: no limit"
    )
    averaging: float = Field(
        ge=0,
        description="Epochs over which the kept weights are averaged (exponential moving average); 0: none",
    )
    dropout: float = Field(ge=0, lt=1, description="Dropout before the last layer")
    patience: Annotated[int, Field(gt=0)] | Literal["none"] = Field(
        description="Epochs without a better tuning AUROC before training stops; none: it never stops early"
    )
    class_weighting: Literal["body_part", "none"] = Field(
        description="Weighted binary cross-entropy per body part, as MURA's authors do (arXiv:1712.06957), or plain"
    )
    flip: bool = Field(description="Random horizontal flips")
    rotation: float = Field(ge=0, le=180, description="Random rotations, at most this many degrees in both directions")
    zoom: float = Field(ge=0, le=1, description="Random zoom, at most by this share, larger and smaller")
    shift: float = Field(ge=0, le=1, description="Random shifts, at most this share of the side, in each direction")
    brightness: float = Field(ge=0, le=1, description="Random brightness, at most this share of white more or less")
    contrast: float = Field(ge=0, lt=1, description="Random contrast, at most this share more or less")
    width: int = Field(gt=0, description="Filters of the custom CNN's first stage; each of the next three doubles them")
    batch_norm_momentum: float = Field(gt=0, lt=1, description="Momentum of batch normalisation's running statistics")
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        description="Number format of the training; auto: the fastest of the hardware, components/network/backend.py"
    )
    residence: Residence = Field(
        description="Where the training images are kept; auto: in memory if they take less than half of what is "
        "free, else on disk"
    )

    def brief(self) -> dict[str, Any]:
        """The choices as JSON, without those that are 0 and leave a part of the training out.

        What a run on Kubeflow is told stands in its state a dozen times.
        """
        return {name: each for name, each in super().brief().items() if each or name not in WITHOUT}

    @classmethod
    def in_full(cls, brief: Any) -> Any:
        """What `brief` gave, with the choices that it left out."""
        return {**dict.fromkeys(WITHOUT, 0), **brief} if isinstance(brief, dict) else brief

    @property
    def weights_file(self) -> Path | None:
        """The file that `weights` names. None for none and imagenet."""
        return None if self.weights in ("none", "imagenet") else Path(self.weights)

    @property
    def no_weights_file(self) -> str:
        """What to say if that file is not there."""
        return f"no weights file {self.weights}; expected none, imagenet or a file of Keras weights."

    @property
    def contradiction(self) -> str | None:
        """What would be passed over in silence, or cannot be done. None if nothing is.

        It is not part of the validation, because the cards of trained models are read with this class too.
        """
        if self.weights == "none" and self.head_epochs:
            return (
                f"head_epochs {self.head_epochs} has no effect with weights none: a head cannot be trained before an "
                "untrained backbone. Set head_epochs to 0, or name pretrained weights"
            )
        if self.architecture == "custom_cnn" and self.weights != "none":
            return f"weights {self.weights}: custom_cnn has no pretrained weights. Set its weights to none"
        return None


def title(candidate: str, architecture: str) -> str:
    """A candidate as people write it: `VGG-16`, or `wide (VGG-16)` if its name is not its architecture's."""
    written = TITLES.get(architecture, architecture)
    return written if candidate == architecture else f"{candidate} ({written})"


def _optional(field: FieldInfo) -> tuple[Any, FieldInfo]:
    """A field that may be left out, with the same bounds."""
    found = copy.copy(field)
    found.default = None
    return field.annotation | None, found  # type: ignore[operator]


_SHARED: dict[str, Any] = {
    name: _optional(field) for name, field in TrainParams.model_fields.items() if name != "candidate"
}
TrainDefaults = create_model("TrainDefaults", __base__=Section, **_SHARED)
"""What the candidates have in common: each choice of TrainParams, all optional."""


class TrainSection(Section):
    """The candidates. Each says what differs from the default."""

    default: TrainDefaults  # type: ignore[valid-type]
    candidates: dict[str, TrainParams] = Field(min_length=1, description="By name, in the order of reports")

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, section: Any) -> Any:
        """Complete each candidate from the default."""
        if not isinstance(section, dict) or not isinstance(section.get("candidates"), dict):
            return section
        default = section.get("default")
        shared = default if isinstance(default, dict) else {}
        # What the default has too much or wrong is told of the default, not of each candidate.
        known = {key: value for key, value in shared.items() if key in TrainParams.model_fields}
        return section | {
            "candidates": {name: named(name, entry, known) for name, entry in section["candidates"].items()}
        }

    @model_validator(mode="wrap")
    @classmethod
    def _without_effect(cls, section: Any, complete: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse choices that change nothing: somebody expects something of them."""
        found = complete(section)
        for name, candidate in found.candidates.items():
            entry = section["candidates"][name] if isinstance(section, dict) else {}
            if problem := candidate.contradiction or _ignored(entry or {}, candidate):
                raise ValueError(f"candidates.{name}: {problem}")
        return found


def _ignored(entry: Mapping[str, Any], candidate: TrainParams) -> str | None:
    """A choice of the candidate's own entry that changes nothing. The default's may be meant for the others."""
    if "head_learning_rate" in entry and not candidate.head_epochs:
        return "head_learning_rate has no effect with head_epochs 0. Remove it, or set head_epochs"
    if "batch_norm_momentum" in entry and candidate.architecture in WITHOUT_BATCH_NORM:
        return f"batch_norm_momentum has no effect on {candidate.architecture}, which has no such layers. Remove it"
    if "width" in entry and candidate.architecture != "custom_cnn":
        return f"width has no effect on {candidate.architecture}: it is that of custom_cnn. Remove it"
    return None


def named(name: str, entry: Any, shared: Mapping[str, Any] | None = None) -> Any:
    """The entry of a candidate with its name, and with what it shares with others; what is no entry as it is.

    Raises:
        ValueError: the entry itself names a candidate.
    """
    if entry is None:
        entry = {}
    if not isinstance(entry, dict):
        return entry
    if "candidate" in entry:
        raise ValueError(f"the key {name} names the candidate; remove `candidate` from its entry")
    return {"candidate": name, **(shared or {}), **entry}
