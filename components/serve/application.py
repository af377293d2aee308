"""What is asked at which path, and how it is answered."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from components.base.errors import MuraError, OutsideFailed
from components.params.train import title
from components.predict.verdicts import RESEARCH, verdict
from components.serve import inference, question
from components.serve.desk import RETRY, Answer, Desk, Present, finite
from components.serve.guard import Guard
from components.serve.question import MAX_VIEW_BYTES, MAX_VIEWS, Question, Refusal
from components.serve.succession import Succession

T = TypeVar("T")

PACKAGE = "mura-pipeline"
MAX_BODY = 160_000_000
"""Bytes of a request."""
BODY_SECONDS = 60.0
"""Until a body is whole."""
STATIC = Path(__file__).parent / "static"
PAGE = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
INFER = "/v2/models/{model}/infer"


def application(desk: Desk, hosts: Sequence[str] | None = None, succession: Succession | None = None) -> Guard:
    """The whole application, for a server.

    Args:
        desk: where questions are answered.
        hosts: names under which it may be asked, without port; None for every name.
        succession: other versions that come while it runs.
    """

    @asynccontextmanager
    async def open_desk(_: FastAPI) -> AsyncIterator[None]:
        async with desk.open():
            watching = asyncio.create_task(succession.watch(desk)) if succession else None
            try:
                yield
            finally:
                if watching:
                    watching.cancel()

    app = FastAPI(
        title="mura",
        version=metadata.version(PACKAGE),
        description=RESEARCH,
        lifespan=open_desk,
        # Its own pages of documentation load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # Addresses and messages of errors would go where variables of the environment say.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(HTTPException, _no_such)
    app.add_exception_handler(MuraError, _failed)
    app.add_exception_handler(Exception, _bug)
    _add_page(app, desk)
    _add_predict(app, desk)
    _add_protocol(app, desk)
    return Guard(app, hosts)


def _add_page(app: FastAPI, desk: Desk) -> None:
    """The page, and what it says of the version."""
    for path, name in PAGE.items():
        content, kind = (STATIC / name).read_bytes(), KINDS[Path(name).suffix]

        def file(content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=kind)

        app.add_api_route(path, file, methods=["GET"], include_in_schema=False)

    @app.get("/about")
    def version() -> JSONResponse:
        """The version that answers, what it was measured on, and the limits of a request."""
        return JSONResponse(_about(desk.present) | {"follows": desk.follows})


def _add_predict(app: FastAPI, desk: Desk) -> None:
    @app.post("/predict", openapi_extra={"requestBody": {"content": {question.FORM: {"schema": _FORM_SCHEMA}}}})
    async def predict(request: Request) -> JSONResponse:
        """Answer for one study: files in, probability and verdict out."""
        with desk.place(), desk.holding() as held, desk.using() as present:
            asked = await _whole(lambda: question.from_form(request.headers, _bounded(request, held.add)))
            (answer,) = await desk.answer(asked, present)
        return JSONResponse(_record(answer, asked, present))


def _add_protocol(app: FastAPI, desk: Desk) -> None:
    """The open inference protocol, version 2."""

    def check(present: Present, model: str, version: str | None) -> None:
        if (model, version or present.version) != (present.name, present.version):
            raise Refusal(404, f"no such model or version. Here is {present.name}, version {present.version}")

    @app.get("/v2")
    def server() -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return {"name": "mura", "version": app.version, "extensions": list(inference.EXTENSIONS)}

    @app.get("/v2/health/live")
    def live() -> dict[str, bool]:
        """Whether the server runs."""
        return {"live": True}

    @app.get("/v2/health/ready")
    def ready() -> JSONResponse:
        """Whether requests should be sent here."""
        return JSONResponse({"ready": desk.ready}, 200 if desk.ready else 503)

    @app.get("/v2/models/{model}/versions/{version}/ready")
    @app.get("/v2/models/{model}/ready")
    def model_ready(model: str, version: str | None = None) -> JSONResponse:
        """Whether the model answers."""
        check(desk.present, model, version)
        return JSONResponse({"name": model, "ready": desk.ready}, 200 if desk.ready else 503)

    @app.get("/v2/models/{model}/versions/{version}")
    @app.get("/v2/models/{model}")
    def model_metadata(model: str, version: str | None = None) -> dict[str, Any]:
        """What goes in and what comes out."""
        present = desk.present
        check(present, model, version)
        tensors = {"inputs": list(inference.INPUTS), "outputs": list(inference.OUTPUTS)}
        told = {"name": present.name, "versions": [present.version], "platform": "onnx_onnxv1", **tensors}
        return told | ({"parameters": {"follows": desk.follows}} if desk.follows else {})

    @app.post("/v2/models/{model}/versions/{version}/infer")
    @app.post(INFER)
    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        """Answer for studies whose views are tensors of bytes."""
        with desk.place(), desk.holding() as held, desk.using() as present:
            check(present, model, version)

            async def body() -> bytes:
                return b"".join([piece async for piece in _bounded(request, held.add)])

            asked = inference.asked(await _whole(body), request.headers.get(inference.BINARY))
            answers = await desk.answer(asked.question, present)
        return _rendered(asked, answers, present)


_FORM_SCHEMA = {
    "type": "object",
    "required": [question.VIEW],
    "properties": {
        question.VIEW: {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": MAX_VIEWS},
        question.PART: {"type": "string"},
        question.PARTIAL: {"type": "boolean"},
        question.PICTURES: {"type": "boolean"},
    },
}


def _about(present: Present) -> dict[str, Any]:
    predictor, card = present.predictor, present.predictor.card
    test = card.scores.test
    measures = {name: getattr(test, name).model_dump() for name in ("auroc", "sensitivity", "specificity")}
    return {
        "model": present.name,
        "version": present.version,
        "title": title(card.candidate, card.architecture),
        "model_digest": card.model_digest,
        "image_size": predictor.size,
        "body_parts": list(predictor.body_parts),
        "threshold": predictor.threshold,
        "operating_point": card.operating_point,
        "unlike_from": card.familiarity and card.familiarity.threshold,
        "test": {"studies": test.n_studies, "patients": test.n_patients, "abnormal": test.n_abnormal, **measures},
        "limits": {"views": MAX_VIEWS, "view_bytes": MAX_VIEW_BYTES, "body_bytes": MAX_BODY},
        "research": RESEARCH,
    }


async def _bounded(request: Request, count: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """The body in pieces, as long as it has no more bytes than it may. What its length says is not trusted."""
    said = request.headers.get("content-length", "0")
    total, much = 0, Refusal(413, f"more than {MAX_BODY:,} bytes, the limit of a request")
    if said.isdigit() and int(said[:20]) > MAX_BODY:
        raise much
    async for piece in request.stream():
        total += len(piece)
        if total > MAX_BODY:
            raise much
        count(len(piece))
        yield piece


async def _whole(read: Callable[[], Awaitable[T]]) -> T:
    """Read a body in time."""
    try:
        with anyio.fail_after(BODY_SECONDS):
            return await read()
    except TimeoutError:
        raise Refusal(408, f"no whole request within {BODY_SECONDS:.0f} s") from None
    except ClientDisconnect:
        raise Refusal(400, "the request broke off") from None


def _record(answer: Answer, asked: Question, present: Present) -> dict[str, Any]:
    """An answer as a JSON object, with what it rests on."""
    views = [
        {"view": number, "kind": view.kind, "width": view.width, "height": view.height} for number, view in answer.views
    ]
    if asked.pictures:
        for entry, (_, view), strength in zip(views, answer.views, answer.maps, strict=True):
            entry["picture"] = "data:image/png;base64," + base64.b64encode(view.picture).decode()
            entry["map"] = [[round(float(each), 4) for each in row] for row in strength]
    about = _about(present)
    rests = ("unlike_from", "threshold", "operating_point", "model", "version", "model_digest")
    return {
        "body_part": answer.body_part or None,
        "probability": answer.prediction.probability,
        "verdict": verdict(answer.prediction),
        "distance": finite(answer.prediction.distance),
        **{name: about[name] for name in rests},
        "views": views,
        "refused": [each._asdict() for each in answer.refused],
        "notes": list(answer.notes),
    }


def _rendered(asked: inference.Asked, answers: Sequence[Answer], present: Present) -> Response:
    """An answer by the protocol."""
    predictor = present.predictor
    outputs: dict[str, list[Any]] = {
        "study": asked.names,
        "probability": [answer.prediction.probability for answer in answers],
        "verdict": [verdict(answer.prediction) for answer in answers],
        "threshold": [predictor.threshold] * len(answers),
        "notes": ["; ".join(answer.notes) for answer in answers],
    }
    told = {"model_name": present.name, "model_version": present.version} | (
        {"id": asked.id} if asked.id is not None else {}
    )
    facts = {"model_digest": predictor.card.model_digest, "operating_point": predictor.card.operating_point}
    content, length = inference.rendered(told | {"parameters": facts}, outputs, asked.outputs)
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={inference.BINARY: str(length)})


async def _refusal(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    said: dict[str, Any] = {"error": error.reason}
    if error.views:
        said["refused"] = [{"view": number, "why": why} for number, why in error.views]
    headers = {"Retry-After": str(RETRY)} if error.status == 503 else None
    return JSONResponse(said, error.status, headers)


async def _no_such(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail).lower()}, error.status_code, error.headers)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    """Something outside failed, such as the memory; or the network's answer is no number."""
    if isinstance(error, OutsideFailed):
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": str(RETRY)})
    return JSONResponse({"error": str(error)}, 500)


async def _bug(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"a bug, {type(error).__name__}"}, 500)
