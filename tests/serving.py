"""Servers that tests and benchmarks ask, and a small version for them to serve."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from drawn_scores import make_scores
from onnx import TensorProto, helper, numpy_helper

from components.artifacts import predictor
from components.artifacts.evaluation import Calibration, Familiarity
from components.artifacts.followed import Followed
from components.artifacts.predictor import PredictorCard
from components.artifacts.trained_model import Offsets
from components.base.files import file_sha256
from components.scores import familiarity as measure
from components.signing import directory

SIZE, CELL = 64, 8
"""Sides of the square and of a place of the map, pixels."""
THRESHOLD = 0.5
PARTS = {"hand": 0.25, "wrist": -0.5}
ROOT = Path(__file__).parents[1]


def draw_version(folder: Path, familiarity: Familiarity | None = None, version: int = 3, shift: float = 3.0) -> Path:
    """A version as `mura fetch` writes it, signed: its logit is mean / 32 - shift, and its map the same of each place.

    Args:
        folder: the directory; it is made.
        familiarity: what tells whether a view is like those of the training.
        version: its number.
        shift: what makes its answers its own.
    """
    (folder / predictor.DATA).mkdir(parents=True)
    onnx.save(_network(shift), folder / predictor.ONNX)
    card = PredictorCard(
        candidate="drawn",
        architecture="custom_cnn",
        model_digest="ab" * 32,
        evaluation_digest="cd" * 32,
        data_digest="ef" * 32,
        code_revision="0" * 40,
        image_size=SIZE,
        flips=False,
        calibration=Calibration(intercept=0.125, slope=0.75, folds=5),
        offsets=Offsets(body_part=PARTS, pooled=0.0),
        operating_point="kappa",
        scores=make_scores(threshold=THRESHOLD),
        network_sha256="12" * 32,
        onnx_sha256=file_sha256(folder / predictor.ONNX),
        familiarity=familiarity,
    )
    (folder / predictor.CARD).write_text(card.model_dump_json())
    (folder / predictor.VERSION).write_text(f"model_name: mura\nmodel_version: '{version}'\n")
    directory.sign(folder)
    return folder


class DrawnAlias:
    """A directory as `mura fetch --follow` keeps it, of versions that are drawn. The alias names version 3 at first."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._count = folder, 0
        folder.mkdir()
        self.move(3)

    def move(self, version: int, change: Callable[[Path], None] = lambda _: None) -> None:
        """Let it name another version.

        Args:
            version: 3, 4 or 5.
            change: what is done to its directory before the server sees it.
        """
        self._count += 1
        name = f"{self._count:06d}"
        change(draw_version(self.folder / name, version=version, shift=6.0 - version))
        self.tell(version, name)

    def tell(self, version: int, name: str, **facts: Any) -> None:
        """Write down what is so."""
        uri = "models:/mura@champion"
        Followed(uri=uri, model="mura", version=version, made=version, directory=name, **facts).write(self.folder)


def learned_from(known: np.ndarray, strange: np.ndarray) -> Familiarity:
    """What tells pictures like some from others.

    Args:
        known: uint8 [N, SIZE, SIZE], squares of the training.
        strange: uint8 [M, SIZE, SIZE], others.
    """
    places = SIZE // CELL
    features = [
        np.float32(each.reshape(-1, places, CELL, places, CELL).mean(axis=(2, 4)).reshape(len(each), -1))
        for each in (known, strange)
    ]
    depths = measure.depths(*features, [(1, places * places)], seed=1)
    comparison = measure.fit(depths, *(measure.reduced(depths, each) for each in features), seed=1)
    # Distances of the known are near 0, of others near 1.
    return Familiarity(threshold=0.5, pictures=len(known), comparison=comparison)


def _network(shift: float) -> onnx.ModelProto:
    places = SIZE // CELL
    nodes = [
        helper.make_node("Cast", ["pixels"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["levels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["means"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Squeeze", ["means", "one"], ["grid"]),
        helper.make_node("Div", ["grid", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "shift"], ["map"]),
        helper.make_node("ReduceMean", ["map", "sides"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["logit"]),
        helper.make_node("Flatten", ["grid"], ["features"], axis=1),
    ]
    constants = {"one": [1], "sides": [1, 2], "column": [-1, 1], "scale": 32.0, "shift": shift}
    given = [
        numpy_helper.from_array(np.array(value, np.int64 if isinstance(value, list) else np.float32), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIZE, SIZE, 1])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", places, places]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", places * places]),
        ],
        given,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


class Served(NamedTuple):
    """A server that runs."""

    url: str
    process: "subprocess.Popen[str]"
    log: Path
    """Its log of predictions."""
    said: list[str]
    """Lines of its stderr so far."""


@contextmanager
def serving(folder: Path, version: Path | str, *words: str, program: Sequence[str] = ()) -> Iterator[Served]:
    """Serve a version on a free port, until the block ends.

    Args:
        folder: for its log.
        version: a directory, or a URI.
        words: further flags.
        program: instead of this Python's `mura`.

    Raises:
        RuntimeError: it did not start.
    """
    log = folder / "predictions.jsonl"
    start = "from components.cli.main import main; main()"
    command = [*(program or (sys.executable, "-c", start)), "serve", "--model", str(version), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([*command, "--log", str(log), *words], stderr=subprocess.PIPE, text=True, env=environment)
    said: list[str] = []
    started = threading.Event()
    reader = threading.Thread(target=_read, args=(server, said, started), daemon=True)
    reader.start()
    try:
        started.wait(120)
        found = next((match for line in said if (match := re.search(r" at (http://\S+)", line))), None)
        if found is None:
            raise RuntimeError(f"the server did not start: {said}")
        yield Served(found[1], server, log, said)
    finally:
        if server.poll() is None:
            server.terminate()
        server.wait(60)
        reader.join(10)
        assert server.stderr is not None
        server.stderr.close()


def _read(server: "subprocess.Popen[str]", said: list[str], started: threading.Event) -> None:
    assert server.stderr is not None
    for line in server.stderr:
        said.append(line.rstrip("\n"))
        if " at http://" in line:
            started.set()
    started.set()
