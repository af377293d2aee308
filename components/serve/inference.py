"""The open inference protocol, version 2: what is asked of `/v2/models/MODEL/infer`, and its answer.

Tensors of bytes come as JSON, where each view is base64, or behind the JSON (Triton's extension `binary_tensor_data`):
there each element has four bytes before it, its length, little endian. Pixels are not taken: a picture is decoded and
fitted here as in training, and floats or squares of whoever asks would be something else.
"""

import binascii
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from components.serve.question import MAX_VIEWS, PART, Question, Refusal, Study, check_size, part_of

IMAGES, STUDY = "images", "study"
BINARY = "Inference-Header-Content-Length"
"""The header that says how long the JSON before the bytes is."""
EXTENSIONS = ("binary_tensor_data",)
MAX_JSON_BYTES = 1_000_000
"""Of the JSON where bytes come behind it."""
MAX_MARKS = 20_000
"""Commas, brackets and braces of a JSON text. Objects in memory are larger than their text."""
# Parameters of tensors.
_SIZE, _WANTED, _KIND = "binary_data_size", "binary_data", "content_type"
_LENGTH = struct.Struct("<I")

INPUTS: tuple[dict[str, Any], ...] = (
    {"name": IMAGES, "datatype": "BYTES", "shape": [-1]},
    {"name": STUDY, "datatype": "BYTES", "shape": [-1]},
    {"name": PART, "datatype": "BYTES", "shape": [-1]},
)
OUTPUTS: tuple[dict[str, Any], ...] = (
    {"name": STUDY, "datatype": "BYTES", "shape": [-1]},
    {"name": "probability", "datatype": "FP64", "shape": [-1]},
    {"name": "verdict", "datatype": "BYTES", "shape": [-1]},
    {"name": "threshold", "datatype": "FP64", "shape": [-1]},
    {"name": "notes", "datatype": "BYTES", "shape": [-1]},
)


class Asked(NamedTuple):
    """A request."""

    question: Question
    names: list[str]
    """Of the studies, as they were given; `1` if none was."""
    id: str | None
    """Of the request."""
    outputs: dict[str, bool]
    """By name, whether it is wanted as bytes."""


def asked(body: bytes, length: str | None) -> Asked:
    """Read a request.

    Args:
        body: of the request.
        length: the header BINARY, None if there is none.

    Raises:
        Refusal: this is no such request, or it asks for more than is served.
    """
    said, behind = _document(body, length)
    tensors = _tensors(said, behind)
    images = tensors.pop(IMAGES, None)
    if images is None:
        raise Refusal(400, f"no input `{IMAGES}`: expected BYTES, each the file of a view")
    if not 0 < len(images) <= MAX_VIEWS:
        raise Refusal(400, f"`{IMAGES}`: {len(images):,} views, expected 1 to {MAX_VIEWS}")
    for number, image in enumerate(images, 1):
        check_size(len(image), number)
    studies = _as_text(tensors.pop(STUDY, None), STUDY, len(images))
    parts = [part_of(part) for part in _as_text(tensors.pop(PART, None), PART, len(images))]
    return Asked(_question(images, studies, parts), list(dict.fromkeys(studies)), _id(said), _outputs(said))


def rendered(
    model: Mapping[str, Any], outputs: Mapping[str, Sequence[Any]], wanted: Mapping[str, bool]
) -> tuple[bytes, int | None]:
    """An answer.

    Args:
        model: what the JSON says beside its outputs.
        outputs: values by name, one for each study.
        wanted: names, and whether each is wanted as bytes.

    Returns:
        The body, and how long the JSON before the bytes is; None if there are none.
    """
    told, behind = [], []
    for tensor in OUTPUTS:
        name = tensor["name"]
        if name not in wanted:
            continue
        values = list(outputs[name])
        entry = tensor | {"shape": [len(values)]}
        if wanted[name]:
            content = _packed(tensor["datatype"], values)
            behind.append(content)
            told.append(entry | {"parameters": {_SIZE: len(content)}})
        else:
            told.append(entry | {"data": values})
    head = json.dumps({**model, "outputs": told}, allow_nan=False).encode()
    return b"".join([head, *behind]), len(head) if behind else None


def _document(body: bytes, length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON object, and the bytes behind it."""
    size = len(body)
    if length is not None:
        if not length.isascii() or not length.isdigit() or int(length[:12]) > min(size, MAX_JSON_BYTES):
            raise Refusal(400, f"{BINARY}: expected the length of the JSON, at most {MAX_JSON_BYTES:,}")
        size = int(length)
    text = body[:size]
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > MAX_MARKS:
        raise Refusal(400, "too many values in the JSON. A view is one text in base64, not a list of numbers")
    try:
        said = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is no JSON") from None
    if not isinstance(said, dict):
        raise Refusal(400, "expected a JSON object with `inputs`")
    return said, body[size:]


def _no_number(_: str) -> None:
    raise ValueError


def _tensors(said: dict[str, Any], behind: bytes) -> dict[str, list[Any]]:
    """The elements of each input: bytes, or text where JSON has them."""
    inputs = said.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(each, dict) for each in inputs):
        raise Refusal(400, "`inputs`: expected a list of tensors")
    known = [tensor["name"] for tensor in INPUTS]
    found: dict[str, list[Any]] = {}
    for tensor in inputs:
        name = tensor.get("name")
        if name not in known or name in found:
            raise Refusal(400, f"`inputs`: expected {', '.join(known)}, each at most once")
        if tensor.get("datatype") != "BYTES":
            raise Refusal(400, f"`{name}`: expected the datatype BYTES. Files of pictures are taken, pixels are not")
        parameters = tensor.get("parameters") or {}
        if not isinstance(parameters, dict) or parameters.get(_KIND) not in (None, "base64", "str"):
            raise Refusal(400, f"`{name}`: its parameters are not understood")
        if _SIZE in parameters:
            content, behind = _cut(behind, parameters[_SIZE], name)
            elements: list[Any] = list(_unpacked(content, name))
        else:
            elements = _flat(tensor.get("data"), name)
            elements = [_image(each) for each in elements] if name == IMAGES else elements
        if tensor.get("shape") not in ([len(elements)], [len(elements), 1]):
            raise Refusal(400, f"`{name}`: its shape is not that of its data")
        found[name] = elements
    if behind:
        raise Refusal(400, "bytes that belong to no input")
    return found


def _cut(behind: bytes, size: Any, name: str) -> tuple[bytes, bytes]:
    if type(size) is not int or not 0 <= size <= len(behind):
        raise Refusal(400, f"`{name}`: {_SIZE} is not what came")
    return behind[:size], behind[size:]


def _unpacked(content: bytes, name: str) -> Iterator[bytes]:
    """Elements that have their length before them."""
    start = 0
    for _ in range(MAX_VIEWS + 1):
        if start == len(content):
            return
        begins = start + _LENGTH.size
        length = _LENGTH.unpack(content[start:begins])[0] if begins <= len(content) else len(content)
        start = begins + length
        if start > len(content):
            raise Refusal(400, f"`{name}`: an element that is longer than its tensor")
        yield content[begins:start]
    raise Refusal(400, f"`{name}`: more than {MAX_VIEWS} elements")


def _packed(datatype: str, values: Sequence[Any]) -> bytes:
    if datatype == "FP64":
        return struct.pack(f"<{len(values)}d", *(math.nan if value is None else value for value in values))
    return b"".join(_LENGTH.pack(len(value)) + value for value in (text.encode() for text in values))


def _flat(data: Any, name: str) -> list[str]:
    """Texts of a tensor [N] or [N, 1]."""
    if isinstance(data, list):
        data = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
        texts = [each for each in data if isinstance(each, str)]
        if len(texts) == len(data):
            return texts
    raise Refusal(400, f"`{name}`: expected its data as a list of texts{', in base64' * (name == IMAGES)}")


def _image(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise Refusal(400, f"`{IMAGES}`: expected base64 (RFC 4648), without line breaks") from None


def _as_text(elements: list[Any] | None, name: str, count: int) -> list[str]:
    """One text for each view: those that were given, or the same for all."""
    if elements is None:
        return ["" if name == PART else "1"] * count
    try:
        # JSON may have half a pair, such as "\\ud800", which no bytes can repeat in an answer.
        texts = [(each if isinstance(each, bytes) else each.encode()).decode() for each in elements]
    except UnicodeError:
        raise Refusal(400, f"`{name}`: expected UTF-8") from None
    if len(texts) not in (1, count):
        raise Refusal(400, f"`{name}`: {len(texts)} elements, expected one for each of {count} views, or one for all")
    return texts * count if len(texts) == 1 else texts


def _question(images: Sequence[bytes], studies: Sequence[str], parts: Sequence[str]) -> Question:
    found: dict[str, Study] = {}
    for number, (image, study, part) in enumerate(zip(images, studies, parts, strict=True), 1):
        place = found.setdefault(study, Study([], [], part))
        if place.part != part:
            raise Refusal(400, f"`{PART}`: views of one study with different body parts")
        place.views.append(image)
        place.numbers.append(number)
    return Question(list(found.values()))


def _id(said: dict[str, Any]) -> str | None:
    found = said.get("id")
    if found is not None and (not isinstance(found, str) or len(found) > 200):
        raise Refusal(400, "`id`: expected a text of at most 200 characters")
    return found


def _outputs(said: dict[str, Any]) -> dict[str, bool]:
    """The outputs that are wanted, and whether as bytes."""
    whole = said.get("parameters") or {}
    known = [tensor["name"] for tensor in OUTPUTS]
    wanted = said.get("outputs")
    if not isinstance(whole, dict) or not (wanted is None or isinstance(wanted, list)):
        raise Refusal(400, "`parameters` or `outputs` are not understood")
    if not wanted:
        return dict.fromkeys(known, whole.get("binary_data_output") is True)
    if not all(isinstance(each, dict) and each.get("name") in known for each in wanted):
        raise Refusal(400, f"`outputs`: expected {', '.join(known)}")
    settings = {each["name"]: each.get("parameters") or {} for each in wanted}
    return {name: isinstance(each, dict) and each.get(_WANTED) is True for name, each in settings.items()}
