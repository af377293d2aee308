"""What the data must be."""

import difflib
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from components.params.section import Section

Severity = Literal["gate", "warn", "skip"]


class Judgement(Section):
    """What a broken expectation does, and from how many offenders on it is broken."""

    severity: Severity
    tolerance: float = Field(default=0, ge=0)
    """Offenders that are tolerated: below 1 a share of what is looked at, from 1 on a number of them."""

    def allows(self, unexpected: int, tested: int) -> bool:
        """Whether so many offenders of so many are tolerated."""
        return unexpected <= (self.tolerance * tested if self.tolerance < 1 else self.tolerance)


class Change(Section):
    """What is chosen otherwise than by default."""

    severity: Severity | None = None
    tolerance: float | None = Field(default=None, ge=0)


GATE, WARN = Judgement(severity="gate"), Judgement(severity="warn")

# Later steps rely on these and would fail, or flatter, without them: always gates, nothing tolerated.
RELIED_ON: Mapping[str, Judgement] = dict.fromkeys(
    (
        "not_empty",
        "complete",
        "found",
        "listed",
        "image_once",
        "path",
        "decodes",
        "recorded",
        "labelled",
        "label",
        "study_has_one_label",
        "study_has_one_patient",
        "study_has_one_body_part",
        "patient_in_one_split",
        "split_agrees",
        "splits_present",
        "split_has_both_labels",
        "body_part_is_trained",
    ),
    GATE,
)
# The others, as they are judged unless params.yaml says otherwise; components/validate/expectations.py says why each is
# there. What MURA itself is known to have (inverted plates, a shift of labels between its splits) only warns.
DEFAULTS: Mapping[str, Judgement] = {
    **RELIED_ON,
    "body_part": GATE,
    "place_once": GATE,
    "label_agrees": GATE,
    "mode": GATE,
    "min_side": GATE,
    "max_side": GATE,
    "views": GATE,
    "picture_in_one_split": Judgement(severity="gate", tolerance=0.001),
    "picture_has_one_label": WARN,
    "picture_of_one_patient": WARN,
    "picture_once": WARN,
    "near_picture_in_one_split": WARN,
    "near_picture_has_one_label": WARN,
    "near_picture_of_one_patient": WARN,
    "abnormal_share": WARN,
    "label_shift": WARN,
    "not_blank": WARN,
    "contrast": WARN,
    "not_mostly_frame": WARN,
    "not_inverted": WARN,
    "aspect": WARN,
    "channels_agree": WARN,
    "published_images": GATE,
    "published_studies": GATE,
    "published_patients": GATE,
    "published_views": GATE,
    "published_longest_side": WARN,
    "drift_body_parts": WARN,
    "drift_labels": WARN,
    "drift_modes": WARN,
    "drift_sizes": WARN,
    "drift_grey_levels": WARN,
}


class ValidateParams(Section):
    """What the data must be. If a gate fails, the data is refused; if a warning fails, it is reported."""

    published: Literal["auto", "mura-v1.1", "none"] = Field(
        description="Hold the archive against the published counts: `auto` if it is recognised, `mura-v1.1` always"
    )
    pictures: bool = Field(description="Show pictures in the report, which must then stay where the archive may be")
    modes: tuple[str, ...] = Field(min_length=1, description="Pixel modes, as Pillow names them")
    min_side: int = Field(gt=0, description="Shortest side that is still an X-ray, pixels")
    max_side: int = Field(gt=0, description="Longest side, pixels")
    max_aspect: float = Field(ge=1, description="Longer side over shorter side")
    max_views: int = Field(gt=0, description="Images in a study")
    min_contrast: int = Field(ge=0, le=255, description="Grey levels between the darkest and the brightest 1 %")
    max_frame: float = Field(gt=0, le=1, description="Share of the area that is empty border")
    max_inversion: float = Field(ge=0, le=255, description="How much brighter the rim may be than the centre, levels")
    abnormal_share: tuple[float, float] = Field(
        description="Share of abnormal studies per split and body part, lowest and highest"
    )
    max_label_shift: float = Field(
        gt=0, description="Between splits, or from a reference: Cohen's h, 0.2 is called small, 0.5 medium"
    )
    max_psi: float = Field(gt=0, description="From a reference: population stability index of body parts and modes")
    max_ks: float = Field(
        gt=0, le=1, description="From a reference: Kolmogorov and Smirnov's distance of sizes and grey levels"
    )
    expectations: dict[str, Change] = Field(
        description="Judgements other than the defaults: NAME: {severity: gate, warn or skip, tolerance: 0.001}"
    )

    @field_validator("expectations")
    @classmethod
    def _known(cls, changes: dict[str, Change]) -> dict[str, Change]:
        for name in changes:
            if name in RELIED_ON:
                raise ValueError(f"{name} is always a gate: later steps rely on it")
            if name not in DEFAULTS:
                near = difflib.get_close_matches(name, DEFAULTS, n=3, cutoff=0.4)
                raise ValueError(f"no expectation {name}; near it: {', '.join(near) or ', '.join(DEFAULTS)}")
        return changes

    @model_validator(mode="after")
    def _ordered(self) -> "ValidateParams":
        low, high = self.abnormal_share
        if not 0 <= low <= high <= 1:
            raise ValueError(f"abnormal_share: expected two shares in ascending order, found {low:g} and {high:g}")
        if self.min_side > self.max_side:
            raise ValueError(f"min_side: {self.min_side} is more than max_side, {self.max_side}")
        return self

    def judgement(self, name: str) -> Judgement:
        """How an expectation is judged: its default, changed by what is chosen."""
        change = self.expectations.get(name, Change())
        return DEFAULTS[name].model_copy(update=change.model_dump(exclude_none=True))
