"""A network by ONNX Runtime: without TensorFlow, and ready in a second."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from components.base.errors import DataRefused, first_line

BATCH_SIZE = 32
"""Views at once; more only take more memory."""


class OnnxNetwork:
    """From squares of pixels to logits and maps."""

    def __init__(self, file: Path, threads: int = 0) -> None:
        """Load a network.

        Args:
            file: as `components.network.onnx_export` writes it. Check its sha256 before.
            threads: of one computation; 0 for one per core.

        Raises:
            DataRefused: it is no such network.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime has an error for each of its states, and no common one.
            raise DataRefused(f"{file}: not a network that ONNX Runtime can load ({first_line(error)}).") from error
        given = {each.name: (each.type, list(each.shape)) for each in self._session.get_inputs()}
        found = {each.name: list(each.shape) for each in self._session.get_outputs()}
        kind, shape = given.get("pixels", ("", []))
        if (kind, len(given), len(shape), shape[3:]) != ("tensor(uint8)", 1, 4, [1]) or not {"logit", "map"} <= set(
            found
        ):
            raise DataRefused(f"{file}: expected a network from pixels to logit and map, found another.")
        self.size = int(shape[1])
        """Side of the square, pixels."""
        self.cells = (int(found["map"][1]), int(found["map"][2]))
        """Rows and columns of a map."""

    def logits(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logits of views, float32 [N].

        Args:
            squares: uint8 [N, size, size].
        """
        return self._run(["logit"], squares)[0].reshape(len(squares))

    def seen(self, squares: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The logits of views, float32 [N], and what the network saw in them, float32 [N, D].

        Args:
            squares: uint8 [N, size, size]; N >= 1.
        """
        logits, features = self._run(["logit", "features"], squares)
        return logits.reshape(len(squares)), features

    def maps(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What each place of views adds to their logits, float32 [N, h, w].

        Args:
            squares: uint8 [N, size, size].
        """
        return self._run(["map"], squares)[0].reshape(len(squares), *self.cells)

    def _run(self, outputs: list[str], squares: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        starts = range(0, len(squares), BATCH_SIZE)
        found = [
            self._session.run(outputs, {"pixels": squares[start : start + BATCH_SIZE, ..., None]}) for start in starts
        ]
        if not found:
            return [np.zeros(0, np.float32) for _ in outputs]
        return [np.concatenate(each) for each in zip(*found, strict=True)]
