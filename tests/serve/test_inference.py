"""The open inference protocol: what a request means, and what is refused."""

import base64
import json
import struct
from typing import Any

import pytest

from components.serve import inference
from components.serve.question import MAX_VIEWS, Refusal

ALL = {"study": ["a", "b"], "probability": [0.25, 0.75], "verdict": ["normal", "abnormal"], "threshold": [0.5, 0.5],
       "notes": ["", "grey"]}  # fmt: skip


def base64_of(*files: bytes) -> list[str]:
    return [base64.b64encode(file).decode() for file in files]


def tensor(name: str, *values: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(values)], "data": list(values)} | fields


def request(*inputs: Any, **fields: Any) -> bytes:
    return json.dumps({"inputs": list(inputs)} | fields).encode()


def packed(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def test_views_without_more_are_one_study() -> None:
    asked = inference.asked(request(tensor("images", *base64_of(b"one", b"two")), id="7"), None)
    (study,) = asked.question.studies
    assert (study.views, study.numbers, study.part) == ([b"one", b"two"], [1, 2], "")
    assert (asked.names, asked.id) == (["1"], "7")
    assert asked.outputs == dict.fromkeys(ALL, False)


def test_studies_are_told_apart_and_have_their_part() -> None:
    body = request(
        tensor("images", *base64_of(b"one", b"two", b"three")),
        tensor("study", "x", "y", "x"),
        tensor("part", "wrist", "hand", "Wrist "),
    )
    asked = inference.asked(body, None)
    assert asked.names == ["x", "y"]
    assert [(study.views, study.numbers, study.part) for study in asked.question.studies] == [
        ([b"one", b"three"], [1, 3], "wrist"),
        ([b"two"], [2], "hand"),
    ]


def test_a_tensor_may_have_a_second_axis_of_one() -> None:
    images = tensor("images", data=[[text] for text in base64_of(b"one", b"two")], shape=[2, 1])
    assert inference.asked(request(images), None).question.studies[0].views == [b"one", b"two"]


def test_bytes_behind_the_json_are_taken_as_they_are() -> None:
    files, studies = packed(b"\x89PNG", b"\0\1"), packed(b"a", b"b")
    head = request(
        {"name": "images", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(files)}},
        {"name": "study", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(studies)}},
        parameters={"binary_data_output": True},
    )
    asked = inference.asked(head + files + studies, str(len(head)))
    assert [study.views for study in asked.question.studies] == [[b"\x89PNG"], [b"\0\1"]]
    assert asked.outputs == dict.fromkeys(ALL, True)


def test_outputs_are_those_that_are_wanted() -> None:
    images = tensor("images", *base64_of(b"one"))
    wanted = [{"name": "verdict"}, {"name": "probability", "parameters": {"binary_data": True}}]
    assert inference.asked(request(images, outputs=wanted), None).outputs == {"verdict": False, "probability": True}


def test_an_answer_as_json() -> None:
    body, length = inference.rendered({"model_name": "mura"}, ALL, dict.fromkeys(ALL, False))
    said = json.loads(body)
    assert length is None
    assert said["model_name"] == "mura"
    assert {each["name"]: each["data"] for each in said["outputs"]} == ALL
    assert {each["name"]: (each["datatype"], each["shape"]) for each in said["outputs"]}["probability"] == ("FP64", [2])


def test_an_answer_as_bytes() -> None:
    body, length = inference.rendered({}, ALL, {"probability": True, "verdict": True, "study": False})
    said, behind = json.loads(body[:length]), body[length:]
    sizes = {each["name"]: each.get("parameters", {}).get("binary_data_size") for each in said["outputs"]}
    assert sizes == {"study": None, "probability": 16, "verdict": 22}
    assert struct.unpack("<2d", behind[:16]) == (0.25, 0.75)
    assert behind[16:] == packed(b"normal", b"abnormal")


IMAGE = tensor("images", *base64_of(b"one"))
MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"inputs": "\xff"}',
    "a list": b"[]",
    "a number": b"1",
    "deep": b"[" * 5000,
    "deeper than the limit of marks": b"[" * 100_000,
    "not a number": request(IMAGE).replace(b'"shape": [1]', b'"shape": [NaN]'),
    "no inputs": b"{}",
    "inputs that are text": b'{"inputs": "images"}',
    "inputs that are numbers": b'{"inputs": [1]}',
    "empty inputs": request(),
    "no images": request(tensor("part", "wrist")),
    "images without data": request({"name": "images", "datatype": "BYTES", "shape": [1]}),
    "no image": request(tensor("images")),
    "too many images": request(tensor("images", *base64_of(b"x") * (MAX_VIEWS + 1))),
    "images twice": request(IMAGE, IMAGE),
    "an unknown input": request(IMAGE, tensor("patient", "x")),
    "pixels": request(tensor("images", *[0] * 9, datatype="UINT8", shape=[1, 3, 3])),
    "floats": request(tensor("images", *[0.5] * 9, datatype="FP32", shape=[1, 3, 3, 1])),
    "numbers as bytes": request(tensor("images", 137, 80, 78, 71)),
    "a list of numbers as bytes": request(tensor("images", [137, 80, 78, 71])),
    "a million numbers": request(tensor("images", *[0] * 1_000_000)),
    "null": request(tensor("images", None)),
    "no base64": request(tensor("images", "not base64!")),
    "base64 of another alphabet": request(tensor("images", "_-_-")),
    "base64 with line breaks": request(tensor("images", "b25l\n")),
    "an address": request(tensor("images", "https://example.org/x.png")),
    "an empty image": request(tensor("images", "")),
    "another shape": request(tensor("images", *base64_of(b"one"), shape=[2])),
    "a shape of four axes": request(tensor("images", *base64_of(b"one"), shape=[1, 1, 1, 1])),
    "no shape": request({"name": "images", "datatype": "BYTES", "data": base64_of(b"one")}),
    "parameters that are text": request(tensor("images", *base64_of(b"one"), parameters="base64")),
    "another kind of content": request(tensor("images", *base64_of(b"one"), parameters={"content_type": "np"})),
    "a size without bytes": request(tensor("images", parameters={"binary_data_size": 4})),
    "a negative size": request(tensor("images", parameters={"binary_data_size": -4})),
    "a size that is true": request(tensor("images", parameters={"binary_data_size": True})),
    "a part that is a path": request(IMAGE, tensor("part", "../../etc/passwd")),
    "a study of half a character": request(IMAGE, tensor("study", "\ud800")),
    "a part of half a character": request(IMAGE, tensor("part", "\ud800")),
    "a part that is a number": request(IMAGE, tensor("part", 3)),
    "two parts for one view": request(IMAGE, tensor("part", "wrist", "hand")),
    "two parts for one study": request(tensor("images", *base64_of(b"a", b"b")), tensor("part", "wrist", "hand")),
    "an unknown output": request(IMAGE, outputs=[{"name": "logit"}]),
    "outputs that are text": request(IMAGE, outputs="verdict"),
    "an id that is a list": request(IMAGE, id=[]),
    "a long id": request(IMAGE, id="x" * 1000),
    "parameters that are a list": request(IMAGE, parameters=[1]),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_request_is_refused(what: str) -> None:
    with pytest.raises(Refusal) as refusal:
        inference.asked(MALFORMED[what], None)
    assert 400 <= refusal.value.status < 500
    assert "\n" not in refusal.value.reason
    assert "passwd" not in refusal.value.reason


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "99999999", "999999999999999999999999", "", "²"])
def test_a_length_that_cannot_be_is_refused(length: str) -> None:
    with pytest.raises(Refusal, match="Inference-Header-Content-Length"):
        inference.asked(request(IMAGE), length)


@pytest.mark.parametrize(
    "content", [b"\1\0\0\0", b"\xff\xff\xff\xff" + b"x" * 8, packed(b"x") + b"\1", packed(*[b"x"] * (MAX_VIEWS + 1))]
)
def test_elements_that_do_not_fit_are_refused(content: bytes) -> None:
    head = request(tensor("images", parameters={"binary_data_size": len(content)}, shape=[1]))
    with pytest.raises(Refusal, match="element"):
        inference.asked(head + content, str(len(head)))


def test_bytes_of_nobody_are_refused() -> None:
    head = request(IMAGE)
    with pytest.raises(Refusal, match="belong to no input"):
        inference.asked(head + b"more", str(len(head)))
