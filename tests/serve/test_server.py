"""`mura serve`, asked over HTTP by programs: answers, limits, refusals, and how it ends."""

import base64
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hostile import as_png
from miniature import picture, png
from radiographs import compressed, radiograph, written
from serving import CELL, ROOT, SIZE, THRESHOLD, Served, draw_version, learned_from, serving

from components.predict.predictor import Predictor
from components.serve import inference
from components.serve.logbook import Entry
from components.signing import directory, keys
from components.xray import square

pytestmark = pytest.mark.long

INFER = "/v2/models/mura/infer"
CANARY = "CANARY7Q"
MB = 1_000_000


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_version(tmp_path_factory.mktemp("drawn") / "version")


@pytest.fixture(scope="module")
def predictor(version: Path) -> Predictor:
    return Predictor.read(version)


@pytest.fixture(scope="module")
def served(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with serving(folder, version, "--key", str(folder / "key")) as running:
        yield running
        # Whatever a test of this module did.
        assert running.process.poll() is None
        assert not [line for line in running.said if "a bug" in line]


def ask(served: Served, *files: bytes, names: tuple[str, ...] = (), **fields: str) -> httpx.Response:
    named = names or ("view",) * len(files)
    form = [("view", (name, content)) for name, content in zip(named, files, strict=True)]
    return httpx.post(f"{served.url}/predict", files=form, data=fields, timeout=60)


def infer(served: Served, *files: bytes, **inputs: list[str]) -> httpx.Response:
    data = {"images": [base64.b64encode(file).decode() for file in files]} | inputs
    tensors = [{"name": name, "datatype": "BYTES", "shape": [len(each)], "data": each} for name, each in data.items()]
    return httpx.post(served.url + INFER, json={"inputs": tensors}, timeout=60)


def expected(predictor: Predictor, part: str, *greys: np.ndarray) -> float:
    squares = np.stack([square.fit(grey, SIZE) for grey in greys])
    return predictor.study(predictor.logits(squares), part).probability


def last(served: Served) -> Entry:
    return Entry.model_validate_json(served.log.read_text().splitlines()[-1])


def dicom(seed: int = 9, **elements: Any) -> bytes:
    return written(radiograph(picture(seed, 90, 70).astype(np.uint16) * 16, bits=12, **elements))


def test_both_protocols_give_what_the_predictor_gives(served: Served, predictor: Predictor) -> None:
    studies = [[picture(10 * study + view) for view in range(1 + study % 3)] for study in range(8)]
    parts = ["wrist", "hand", "", "knee"] * 2
    flat = [(png(grey), str(number), parts[number]) for number, study in enumerate(studies) for grey in study]
    files, names, of_views = zip(*flat, strict=True)
    whole = infer(served, *files, study=list(names), part=list(of_views)).json()
    outputs = {each["name"]: each["data"] for each in whole["outputs"]}
    assert outputs["study"] == [str(number) for number in range(8)]
    for number, (study, part) in enumerate(zip(studies, parts, strict=True)):
        answer = ask(served, *map(png, study), part=part).json()
        probability = expected(predictor, part, *study)
        assert answer["probability"] == pytest.approx(probability, abs=1e-6)
        assert outputs["probability"][number] == pytest.approx(probability, abs=1e-6)
        word = "abnormal" if probability >= THRESHOLD else "normal"
        assert (answer["verdict"], outputs["verdict"][number]) == (word, word)
    assert set(outputs["verdict"]) == {"normal", "abnormal"}


def test_an_answer_says_what_it_rests_on(served: Served) -> None:
    answer = ask(served, png(picture(1)), part="wrist").json()
    rests = ("threshold", "operating_point", "model", "version", "model_digest", "body_part", "refused", "notes")
    assert [answer[name] for name in rests] == [THRESHOLD, "kappa", "mura", "3", "ab" * 32, "wrist", [], []]
    assert answer["views"] == [{"view": 1, "kind": "PNG", "width": 64, "height": 48}]


def test_the_body_part_is_that_of_the_files_unless_it_is_given(served: Served) -> None:
    said = dicom(BodyPartExamined="WRIST")
    assert ask(served, said).json()["body_part"] == "wrist"
    assert ask(served, said, part="Hand ").json()["body_part"] == "hand"
    two = ask(served, said, dicom(8, BodyPartExamined="HAND")).json()
    assert two["body_part"] is None
    assert any("hand and wrist" in note for note in two["notes"])
    assert any("learned nothing of knee" in note for note in ask(served, said, part="knee").json()["notes"])


def test_pictures_and_maps_come_if_they_are_asked_for(served: Served, predictor: Predictor) -> None:
    grey = picture(3)
    (view,) = ask(served, png(grey), pictures="true").json()["views"]
    assert base64.b64decode(view["picture"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    found = np.array(view["map"])
    assert found.shape == (SIZE // CELL, SIZE // CELL)
    assert found == pytest.approx(predictor.maps(square.fit(grey, SIZE)[None])[0], abs=1e-4)


@pytest.mark.parametrize("kind", ["JPEG 2000 lossless", "JPEG lossless", "RLE"])
def test_compressed_dicom_is_answered(served: Served, kind: str) -> None:
    assert ask(served, compressed(radiograph(picture(5).astype(np.uint16) * 8, bits=12), kind)).status_code == 200


def test_a_refused_view_refuses_the_study_unless_it_may_be_partial(served: Served, predictor: Predictor) -> None:
    grey = picture(6)
    views = (png(grey), as_png("RGB"))
    refused = ask(served, *views)
    assert (refused.status_code, [each["view"] for each in refused.json()["refused"]]) == (422, [2])
    answer = ask(served, *views, partial="true").json()
    assert answer["probability"] == pytest.approx(expected(predictor, "", grey), abs=1e-6)
    assert [each["view"] for each in answer["views"]] == [1]
    assert [each["view"] for each in answer["refused"]] == [2]
    assert ask(served, as_png("RGB"), partial="true").status_code == 422


def test_files_of_two_studies_are_not_one(served: Served) -> None:
    assert ask(served, dicom(), dicom(8, StudyInstanceUID="1.2.3")).status_code == 200
    assert "several studies" in ask(served, dicom(), dicom(8, StudyInstanceUID="1.2.4")).json()["error"]


def test_the_protocol_says_what_is_there(served: Served) -> None:
    def get(path: str) -> Any:
        answer = httpx.get(served.url + path)
        return answer.json() if answer.status_code == 200 else answer.status_code

    assert get("/v2")["extensions"] == ["binary_tensor_data"]
    assert (get("/v2/health/live"), get("/v2/health/ready")) == ({"live": True}, {"ready": True})
    for path in ("/v2/models/mura", "/v2/models/mura/versions/3"):
        about = get(path)
        assert (about["name"], about["versions"]) == ("mura", ["3"])
        assert [each["name"] for each in about["inputs"]] == ["images", "study", "part"]
        assert get(f"{path}/ready") == {"name": "mura", "ready": True}
    for path in ("/v2/models/other", "/v2/models/mura/versions/4", "/v2/models/other/ready", "/nowhere"):
        assert get(path) == 404


def test_tensors_of_bytes_go_both_ways(served: Served, predictor: Predictor) -> None:
    grey = picture(7)
    content = png(grey)
    tensor = struct.pack("<I", len(content)) + content
    images = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(tensor)}}
    wanted = [{"name": "probability", "parameters": {"binary_data": True}}]
    head = json.dumps({"id": "one", "inputs": [images], "outputs": wanted}).encode()
    answer = httpx.post(served.url + INFER, content=head + tensor, headers={inference.BINARY: str(len(head))})
    length = int(answer.headers[inference.BINARY])
    said = json.loads(answer.content[:length])
    assert (said["id"], said["model_version"]) == ("one", "3")
    assert struct.unpack("<d", answer.content[length:])[0] == pytest.approx(expected(predictor, "", grey), abs=1e-6)


def malformed() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What, where, and how it is sent."""
    good, rng = png(picture(1)), random.Random(1)
    files = {
        "empty": b"", "text": b"hello", "zeros": bytes(5000), "noise": rng.randbytes(5000),
        "GIF": b"GIF89a" + bytes(99), "TIFF": b"II*\0" + bytes(99), "zip": b"PK\3\4" + bytes(99),
        "web page": b"<html></html>", "RGB": as_png("RGB"), "an array": np.zeros((64, 64)).tobytes(),
        "a NumPy file": b"\x93NUMPY" + bytes(99), "only the signature": good[:8], "JPEG's signature": b"\xff\xd8\xff",
        "DICOM's signature": bytes(128) + b"DICM", "CT": dicom(Modality="CT"), "frames": dicom(NumberOfFrames=2),
        "for processing": dicom(PresentationIntentType="FOR PROCESSING"), "no pixels": dicom(Rows=0),
        "colour": dicom(PhotometricInterpretation="RGB"), "wrong size": dicom(Rows=4000),
        "a bomb of pixels": good[:16] + struct.pack(">II", 60_000, 60_000) + good[24:],
    }  # fmt: skip
    files |= {f"truncated at {place}": good[:place] for place in range(20, len(good) - 12, len(good) // 12)}
    for place in range(12):
        damaged = bytearray(good)
        damaged[40 + place * (len(good) - 60) // 12] ^= 0xFF
        files[f"damaged {place}"] = bytes(damaged)
    for what, content in files.items():
        yield f"a view: {what}", "/predict", {"files": {"view": ("view", content)}}
        yield f"an image: {what}", INFER, {"json": {"inputs": [tensor(base64.b64encode(content).decode())]}}
    for name in ("../../etc/passwd", "/etc/passwd", "..\\..\\x", "\0", "x" * 5000, f"{CANARY}.dcm"):
        yield f"a name: {name[:20]!r}", "/predict", {"files": {"view": (name, b"nothing")}}
    forms: dict[str, dict[str, Any]] = {
        "none": {}, "empty": {"data": {"part": "wrist"}}, "text": {"data": {"view": "x"}, "files": {"other": b""}},
        "JSON": {"json": {"view": "x"}}, "unknown field": {"files": {"view": good}, "data": {"name": "x"}},
        "a part that is a path": {"files": {"view": good}, "data": {"part": "../x"}},
        "a file of another name": {"files": {"view": ("view", good), "other": ("x", good)}},
        "a part that is a file": {"files": {"view": ("view", good), "part": ("x", good)}},
        "only files of other names": {"files": {"other": ("x", good)}},
        "a charset that decodes nothing": {
            "content": b'--b\r\nContent-Disposition: form-data; name="view"; filename="x"\r\n\r\nabc\r\n--b--\r\n',
            "headers": {"Content-Type": "multipart/form-data; boundary=b; charset=undefined"},
        },
        "maybe partial": {"files": {"view": good}, "data": {"partial": "perhaps"}},
        "too many files": {"files": [("view", good)] * 40},
        "no boundary": {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        "another boundary": {"content": b"--a\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        "no end": {
            "content": b'--b\r\nContent-Disposition: form-data; name="view"; filename="x"\r\n\r\nabc',
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
    }  # fmt: skip
    for what, sent in forms.items():
        yield f"a form: {what}", "/predict", sent
    pixels = {"name": "images", "datatype": "FP32", "shape": [1, 8, 8, 1], "data": [0.5] * 64}
    bodies: dict[str, Any] = {
        "none": {"content": b""}, "no JSON": {"content": b"{"}, "an array": {"json": [[0.5] * 64] * 64},
        "pixels": {"json": {"inputs": [pixels]}}, "instances": {"json": {"instances": [[0.5]]}},
        "half a character": {"content": json.dumps({
            "inputs": [tensor(base64.b64encode(good).decode()), tensor("\ud800") | {"name": "study"}],
            "parameters": {"binary_data_output": True},
        })},
        "deep": {"content": b"[" * 100_000}, "a form": {"files": {"view": good}},
    }  # fmt: skip
    for what, sent in bodies.items():
        yield f"a body: {what}", INFER, sent
    for path in (
        "/v2/models/..%2f..%2fetc/infer",
        "/v2/models/other/infer",
        "/predict/../../etc/passwd",
        "/etc/passwd",
    ):
        yield f"a path: {path}", path, {"json": {}}


def tensor(text: str) -> dict[str, Any]:
    return {"name": "images", "datatype": "BYTES", "shape": [1], "data": [text]}


def test_a_hundred_malformed_requests_are_refused_with_a_reason(served: Served) -> None:
    requests = list(malformed())
    assert len(requests) >= 100
    before = served.log.read_bytes()
    wrong = {}
    with httpx.Client(base_url=served.url, timeout=60) as client:
        for what, path, sent in requests:
            answer = client.post(path, **sent)
            if not 400 <= answer.status_code < 500 or not answer.json()["error"]:
                wrong[what] = (answer.status_code, answer.text)
            assert "passwd" not in answer.text
            assert CANARY not in answer.text
    assert wrong == {}
    assert served.log.read_bytes() == before
    assert ask(served, png(picture(1))).status_code == 200


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // MB):
        yield bytes(MB)


@pytest.mark.parametrize("path", ["/predict", INFER])
def test_a_gigabyte_is_refused_with_a_reason(served: Served, path: str) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    head = b'--b\r\nContent-Disposition: form-data; name="view"; filename="x"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield head
        yield from chunks(1000 * MB)

    for headers in (form, form | {"Content-Length": str(len(head) + 1000 * MB)}):
        answer = httpx.post(served.url + path, content=body(), headers=headers, timeout=120)
        assert (answer.status_code, "the limit of a request" in answer.json()["error"]) == (413, True)
    assert resident(served.process.pid) < 600 * MB


def test_a_large_file_is_refused_with_its_number(served: Served) -> None:
    answer = ask(served, png(picture(1)), bytes(65 * MB))
    assert (answer.status_code, answer.json()["refused"][0]["view"]) == (413, 2)


def resident(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_pages_of_others_may_not_ask(served: Served) -> None:
    files = {"view": png(picture(1))}
    refused = ({"Origin": "https://example.org"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"})
    for headers in refused:
        assert httpx.post(f"{served.url}/predict", files=files, headers=headers).status_code == 403
    for headers in ({"Origin": served.url}, {"Sec-Fetch-Site": "same-origin"}):
        assert httpx.post(f"{served.url}/predict", files=files, headers=headers).status_code == 200


def test_another_name_is_not_answered(served: Served) -> None:
    assert httpx.get(served.url, headers={"Host": "example.org"}).status_code == 421
    port = served.url.rpartition(":")[2]
    assert httpx.get(served.url, headers={"Host": f"localhost:{port}"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/about", "/nowhere", "/v2/health/live"])
def test_every_answer_tells_browsers_what_it_may_do(served: Served, path: str) -> None:
    headers = httpx.get(served.url + path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_the_log_has_the_prediction_and_nobody(served: Served) -> None:
    elements = {
        "PatientName": f"{CANARY}^A",
        "PatientID": CANARY,
        "StudyInstanceUID": "1.2.77777",
        "StudyDate": "19770707",
    }
    content = dicom(BodyPartExamined=CANARY, **elements)
    answer = ask(served, content, png(picture(3)), names=(f"{CANARY}.dcm", f"{CANARY}.png"))
    entry = last(served)
    assert (entry.probability, entry.verdict) == (answer.json()["probability"], answer.json()["verdict"])
    assert (entry.model, entry.version, entry.body_part, entry.distance) == ("mura", "3", None, None)
    assert [(view.kind, view.width, view.height) for view in entry.views] == [("DICOM", 70, 90), ("PNG", 64, 48)]
    ask(served, png(picture(4)), part="canary7q")
    assert last(served).body_part == "other"
    infer(served, png(picture(4)), study=[CANARY])
    everything = served.log.read_text() + "\n".join(served.said)
    for canary in (CANARY, CANARY.lower(), "1.2.77777", "19770707"):
        assert canary not in everything


def test_the_same_files_have_the_same_hash(served: Served) -> None:
    hashes = []
    for files in ((png(picture(1)),), (png(picture(1)),), (png(picture(2)),)):
        ask(served, *files)
        hashes.append(last(served).input)
    assert hashes[0] == hashes[1] != hashes[2]


def test_whoever_is_too_many_hears_it_at_once(served: Served) -> None:
    """Requests whose bodies do not end hold their places."""
    port = int(served.url.rpartition(":")[2])
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    waiting = []
    try:
        for _ in range(8):
            each = socket.create_connection(("127.0.0.1", port))
            each.sendall(head + b"Content-Length: 1000\r\n\r\n--b\r\n")
            waiting.append(each)
        deadline = time.monotonic() + 30
        while (answer := ask(served, png(picture(1)))).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert httpx.get(f"{served.url}/v2/health/ready").status_code == 200
    finally:
        for each in waiting:
            each.close()
    while (answer := ask(served, png(picture(1)))).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status_code == 200


def test_many_at_once_get_their_own_answers(served: Served, predictor: Predictor) -> None:
    greys = [picture(seed) for seed in range(24)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda grey: ask(served, png(grey), part="hand").json()["probability"], greys))
    assert answers == pytest.approx([expected(predictor, "hand", grey) for grey in greys], abs=1e-6)


def test_what_is_unlike_the_training_has_no_probability(tmp_path: Path) -> None:
    known = np.stack([square.fit(picture(seed), SIZE) for seed in range(100, 160)])
    strange = np.stack([square.fit(np.full((48, 64), level, np.uint8), SIZE) for level in range(0, 240, 4)])
    version = draw_version(tmp_path / "version", learned_from(known, strange))
    with serving(tmp_path, version) as running:
        like, blank = png(picture(110)), png(np.full((48, 64), 120, np.uint8))
        answer = ask(running, like).json()
        assert answer["verdict"] in ("normal", "abnormal")
        assert answer["distance"] <= answer["unlike_from"]
        answer = ask(running, like, blank).json()
        assert (answer["verdict"], answer["probability"]) == ("unlike", None)
        assert "view 2 is not like the training data" in answer["notes"]
        entry = last(running)
        assert (entry.verdict, entry.probability, entry.distance) == ("unlike", None, answer["distance"])
        outputs = {each["name"]: each["data"] for each in infer(running, like, blank).json()["outputs"]}
        assert (outputs["verdict"], outputs["probability"]) == (["unlike"], [None])


def test_sigterm_is_told_first_and_obeyed_then(version: Path, tmp_path: Path) -> None:
    with serving(tmp_path, version, "--linger", "3") as running:
        running.process.send_signal(signal.SIGTERM)
        while (ready := httpx.get(f"{running.url}/v2/health/ready")).status_code == 200:
            time.sleep(0.05)
        assert ready.json() == {"ready": False}
        assert ask(running, png(picture(1))).status_code == 200
        assert running.process.wait(60) == 0
    assert running.said[-1].endswith("serve: stopped")
    assert children_of(running.process.pid) == []


def children_of(pid: int) -> list[str]:
    found = subprocess.run(["ps", "-o", "args", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return found.splitlines()[1:]


def test_what_is_asked_when_it_is_told_to_end_is_still_answered(version: Path, tmp_path: Path) -> None:
    with serving(tmp_path, version) as running, ThreadPoolExecutor(1) as pool:
        port = int(running.url.rpartition(":")[2])
        request = httpx.Request("POST", f"{running.url}/predict", files={"view": ("view", png(picture(1)))})
        body = request.read()
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall("\r\n".join(["POST /predict HTTP/1.1", *lines, "", ""]).encode() + body[:50])
            time.sleep(0.5)
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            slow.sendall(body[50:])
            assert pool.submit(slow.recv, 100).result(30).startswith(b"HTTP/1.1 200")
        assert running.process.wait(60) == 0


def test_predictions_are_logged_to_stderr_by_default(version: Path) -> None:
    command = [sys.executable, "-c", "from components.cli.main import main; main()", "serve", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--model", str(version)], stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stderr is not None
        url = next(line.split(" at ")[1].strip() for line in server.stderr if " at http" in line)
        httpx.post(f"{url}/predict", files={"view": png(picture(1))}).raise_for_status()
        server.terminate()
        entry = Entry.model_validate_json(server.stderr.readline())
    assert entry.verdict in ("normal", "abnormal")


@pytest.mark.parametrize(
    ("model", "code", "told"),
    [("nowhere", 2, "mura fetch"), ("models:/mura@nobody", 2, "was not fetched")],
)
def test_a_version_that_is_not_there(model: str, code: int, told: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from components.cli.main import main; main()", "serve", "--model", model]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, told in done.stderr.splitlines()[-1]) == (code, True), done.stderr


def refused(version: Path) -> str:
    """What a server says of a version that it does not serve, with exit code 3."""
    command = [sys.executable, "-c", "from components.cli.main import main; main()", "serve", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--model", str(version)], capture_output=True, text=True, env=environment)
    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_what_was_changed_since_it_was_signed_is_refused(tmp_path: Path) -> None:
    version = draw_version(tmp_path / "version")
    with (version / "data/network.onnx").open("ab") as file:
        file.write(b"\0")
    assert "data/network.onnx was changed" in refused(version)


def test_what_is_not_signed_is_refused(tmp_path: Path) -> None:
    version = draw_version(tmp_path / "version")
    (version / directory.SIGNATURE).unlink()
    assert "not signed" in refused(version)


def test_another_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = draw_version(tmp_path / "version")
    other = keys.public_of(keys.drawn(), "another key")
    monkeypatch.setenv(keys.TRUSTED_KEYS, other.pem.decode())
    assert "which is not trusted here" in refused(version)


def test_another_network_than_that_of_the_card_is_refused_although_it_is_signed(tmp_path: Path) -> None:
    version = draw_version(tmp_path / "version")
    with (version / "data/network.onnx").open("ab") as file:
        file.write(b"\0")
    directory.sign(version)
    assert "not the network on the card" in refused(version)


def test_a_port_that_is_taken_is_told(served: Served, version: Path) -> None:
    port = served.url.rpartition(":")[2]
    command = [sys.executable, "-c", "from components.cli.main import main; main()", "serve", "--port", port]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--model", str(version)], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "cannot listen there" in done.stderr


def test_it_needs_neither_tensorflow_nor_mlflow_nor_tables(version: Path) -> None:
    """A fresh process that answers has imported none of them."""
    code = f"""
import sys, pathlib, socket
from components.cli import tools
from components.serve import decoder, listening, running
from components.predict.predictor import Predictor
import numpy as np
predictor = Predictor.opened(pathlib.Path({str(version)!r}))
predictor.study(predictor.logits(np.zeros((1, {SIZE}, {SIZE}), np.uint8)), "wrist")
others = ("tensorflow", "keras", "mlflow", "pandas", "pyarrow", "scipy", "matplotlib", "boto3", "model_signing")
print([name for name in others if name in sys.modules])
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
