"""A registered version as a model of MLflow's `python_function`: `mlflow.pyfunc.load_model`, `mlflow models serve`.

ONNX Runtime computes: TensorFlow is not imported. Wrong requests are answered with 400 and a reason, which names rows
and pictures by their numbers.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from components.archive.archive import MAX_BYTES
from components.predict.predictor import Predictor
from components.predict.verdicts import of_part, part_of, verdict
from components.tracking.scoring import refusal
from components.xray import body_parts, picture
from components.xray.picture import Picture
from components.xray.png import BadImage

COLUMNS = ("study", "part", "images")
MOST_IMAGES = 1_000
"""In one request."""
MOST_BYTES = 256_000_000
"""Of all pictures of a request together."""


class _Study(NamedTuple):
    name: str
    part: str
    pictures: list[Picture]


class Model:
    """What MLflow calls."""

    def __init__(self, predictor: Predictor) -> None:
        """Take a predictor."""
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Answer for studies, a row each.

        Args:
            model_input: a table with `study`, any text; `images`, a list of PNG, JPEG or DICOM files, as bytes or as
                base64; and perhaps `part`, the body part, such as `wrist`.
            params: MLflow gives them; there are none.

        Returns:
            The rows in the same order: study, probability (of abnormality, calibrated), verdict (normal, abnormal,
            unlike: then without a probability),
            threshold, operating_point, model_digest, notes.

        Raises:
            MlflowException: the request is refused.
        """
        studies = _studies(model_input)
        answers = [self._answer(each) for each in studies]
        # Of objects: in a column of numbers None would become NaN, which is no JSON.
        probability = pd.Series([each["probability"] for each in answers], dtype=object)
        return pd.DataFrame(answers).assign(probability=probability)

    def _answer(self, study: _Study) -> dict[str, Any]:
        predictor = self._predictor
        squares = np.stack([predictor.fit(each.grey) for each in study.pictures])
        body_part, about = part_of([body_parts.of_dicom(each.body_part) for each in study.pictures], study.part)
        logits, distances = predictor.asked(squares)
        found = predictor.study(logits, body_part, distances)
        notes = dict.fromkeys(note for each in study.pictures for note in each.notes)
        strange = [f"picture {number + 1} is not like the training data" for number in found.unlike]
        return {
            "study": study.name,
            "probability": found.probability,
            "verdict": verdict(found),
            "threshold": predictor.threshold,
            "operating_point": predictor.card.operating_point,
            "model_digest": predictor.card.model_digest,
            "notes": [*notes, *about, *of_part(found, body_part), *strange],
        }


def _load_pyfunc(data_path: str) -> Model:
    """What MLflow calls to load the model. The signature of the directory is verified.

    MLflow itself has read MLmodel by then, and put a folder `code` on the path if somebody added one: this refuses a
    changed directory, and cannot keep MLflow from importing another loader that a changed MLmodel names. `mura
    predict`, `mura fetch` and `mura serve` verify before.

    Args:
        data_path: the directory of the logged model.

    Raises:
        UsageError: nobody is trusted here.
        DataRefused: it is not as somebody signed it who is trusted here.
    """
    return Model(Predictor.read(Path(data_path)))


def _studies(table: Any) -> list[_Study]:
    """The studies of a request, decoded."""
    if not isinstance(table, pd.DataFrame):
        raise refusal(
            "Expected a table with a row for each study: dataframe_records or dataframe_split, with study, images and "
            "perhaps part. Squares of pixels and other arrays are no input of this model."
        )
    if missing := sorted({"study", "images"} - set(table.columns)):
        raise refusal(f"Expected the columns study, images and perhaps part; there is no {' and no '.join(missing)}.")
    if not len(table):
        raise refusal("Expected at least one study, got an empty table.")
    _check_size(table["images"])
    return [_study(number, row) for number, row in enumerate(table.to_dict("records"), 1)]


def _check_size(images: "pd.Series[Any]") -> None:
    """Refuse too much before any picture is decoded."""
    given = [each for row in images if isinstance(row, list | tuple | np.ndarray) for each in row]
    if len(given) > MOST_IMAGES:
        raise refusal(f"Expected at most {MOST_IMAGES:,} pictures in a request, got {len(given):,}. Send fewer.")
    # Base64 is a third longer than what it stands for.
    total = sum(len(each) * (3 if isinstance(each, str) else 4) // 4 for each in given if isinstance(each, str | bytes))
    if total > MOST_BYTES:
        raise refusal(f"Expected at most {MOST_BYTES:,} bytes of pictures, got {total:,}. Send fewer.")


def _study(number: int, row: Mapping[Any, Any]) -> _Study:
    name, part, images = (row.get(column) for column in COLUMNS)
    if not isinstance(name, str) or not name:
        raise refusal(f"Row {number}: expected the study as text, got {type(name).__name__}.")
    if part is not None and not isinstance(part, str) and not pd.isna(part):
        raise refusal(f"Row {number}: expected the part as text such as wrist, got {type(part).__name__}.")
    if any("\ud800" <= character <= "\udfff" for text in (name, part) if isinstance(text, str) for character in text):
        # JSON may have half a pair, which no answer can repeat.
        raise refusal(f"Row {number}: expected the study and the part as Unicode.")
    if not isinstance(images, list | tuple | np.ndarray) or not len(images):
        raise refusal(f"Row {number}: expected a list of pictures, one or more, got {_what(images)}.")
    said = part.strip().lower() if isinstance(part, str) else ""
    return _Study(name, said, list(_pictures(number, list(images))))


def _pictures(row: int, images: list[Any]) -> Iterator[Picture]:
    for number, given in enumerate(images, 1):
        where = f"Row {row}, picture {number}"
        content = _content(where, given)
        if len(content) > MAX_BYTES:
            raise refusal(f"{where}: more than {MAX_BYTES:,} bytes, the limit.")
        try:
            yield picture.read(content)
        except BadImage as error:
            raise refusal(f"{where}: {error}.") from error


def _content(where: str, given: Any) -> bytes:
    if isinstance(given, bytes | bytearray):
        return bytes(given)
    if not isinstance(given, str):
        raise refusal(f"{where}: expected a PNG, JPEG or DICOM file, as bytes or base64, got {_what(given)}.")
    try:
        # With the line breaks that some encoders write.
        return base64.b64decode("".join(given.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise refusal(f"{where}: expected a file as base64, got other text.") from error


def _what(given: Any) -> str:
    return (
        "nothing"
        if given is None
        else "an empty list"
        if isinstance(given, list) and not given
        else (type(given).__name__)
    )
