"""A registered version as one object: from the views of a study to its probability and verdict.

Importing this imports neither TensorFlow nor MLflow.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from components.artifacts import predictor
from components.artifacts.predictor import PredictorCard, Version
from components.base.errors import DataRefused, UsageError
from components.base.files import file_sha256
from components.scores import calibration, offsets
from components.scores.calibration import Line
from components.scores.familiarity import Measure, is_unlike
from components.scores.studies import study_logit

if TYPE_CHECKING:
    from components.xray.png import Grey

URI = "models:/mura@champion"


class Prediction(NamedTuple):
    """The answer to a study."""

    probability: float | None
    """Of abnormality, calibrated; None if the study is unlike the training data."""
    abnormal: bool
    """Whether the probability reaches the threshold."""
    pooled: bool
    """Whether the offset of all body parts together was taken, as the network learned nothing of this part."""
    unlike: tuple[int, ...] = ()
    """The views that are unlike the training pictures, from 0. With one of them the study has no probability."""
    distance: float | None = None
    """Of the farthest view to the training pictures; None where that is not known."""


class Network(Protocol):
    """What computes: ONNX Runtime or Keras."""

    @property
    def size(self) -> int:
        """Side of the square that it sees, pixels."""

    def logits(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Its answers, float32 [N], to uint8 [N, size, size]."""

    def seen(self, squares: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Its answers, float32 [N], and what it saw, float32 [N, D], to uint8 [N, size, size]."""

    def maps(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What each place adds to the answer, float32 [N, h, w], for uint8 [N, size, size]."""


class Predictor:
    """A registered version: decodes nothing, and does the rest as `mura shard` and `mura evaluate` do it."""

    def __init__(self, card: PredictorCard, named: Version, network: Network) -> None:
        """Use `of` or `read`."""
        self.card = card
        self.named = named
        self.network = network
        self.size = network.size
        """Side of the square that the network sees, pixels."""
        self.threshold = card.threshold
        """`probability >= threshold` is called abnormal."""
        self.body_parts = tuple(sorted(card.offsets.body_part))
        """Those that trained the network."""
        self._line = Line(card.calibration.intercept, card.calibration.slope)
        self._measure = Measure(card.familiarity.comparison) if card.familiarity else None

    @classmethod
    def of(cls, where: str = URI) -> Self:
        """Take a version from the registry, or from a directory, and check it. Keras computes: as `mura evaluate` does.

        The signature is verified before anything opens a file.

        Args:
            where: `models:/NAME@ALIAS` or `models:/NAME/VERSION`, or a directory that `mura fetch` wrote.

        Raises:
            UsageError: there is no such version, or it is from before probabilities were calibrated, or nobody is
                trusted here.
            DataRefused: the version was changed since it was registered.
            OutsideFailed: its files are lost or damaged.
            ServiceUnreachable: MLflow does not answer.
        """
        if where.startswith(predictor.REGISTERED):
            from components.predict import fetching

            return cls(*fetching.with_keras(where))
        folder = Path(where)
        _verify(folder)
        # TensorFlow takes seconds: first whether it is wanted.
        from components.predict.keras_network import KerasNetwork

        card, named = predictor.read(folder)
        try:
            return cls(card, named, KerasNetwork.read(folder / predictor.NETWORK, card.flips))
        except ValueError as error:
            raise DataRefused(f"{folder}: {error}. Fetch it again.") from error

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a version that `mura fetch` wrote. ONNX Runtime computes.

        The signature is verified before anything opens a file.

        Args:
            folder: the directory.

        Raises:
            UsageError: it is no such directory, or nobody is trusted here.
            DataRefused: it is not as somebody signed it who is trusted here.
        """
        _verify(folder)
        return cls.opened(folder)

    @classmethod
    def opened(cls, folder: Path) -> Self:
        """Read a version that has just been verified. ONNX Runtime computes.

        Args:
            folder: the directory.

        Raises:
            DataRefused: its network is not the one on its card, or is none.
        """
        from components.golden.onnx_network import OnnxNetwork

        card, named = predictor.read(folder)
        file = folder / predictor.ONNX
        if not file.is_file() or file_sha256(file) != card.onnx_sha256:
            raise DataRefused(f"{file}: not the network on the card beside it (sha256 differs). Fetch it again.")
        network = OnnxNetwork(file)
        if network.size != card.image_size:
            raise DataRefused(f"{file}: sees {network.size} pixels, and its card says {card.image_size}.")
        return cls(card, named, network)

    def __str__(self) -> str:
        return f"{self.named.model} version {self.named.version}" if self.named.model else self.card.candidate

    def fit(self, grey: "Grey") -> NDArray[np.uint8]:
        """A view as the network sees it, uint8 [size, size].

        Args:
            grey: uint8 [height, width].
        """
        # Imports the decoders, which a server has in processes of their own.
        from components.xray import square

        return square.fit(grey, self.size)

    def logits(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's answer to views, float32 [N].

        Args:
            squares: uint8 [N, size, size], of `fit`.

        Raises:
            DataRefused: an answer is not finite.
        """
        return self._finite(self.network.logits(squares))

    def asked(self, squares: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The network's answer to views, and how far each is from the training pictures, float32 [N] each.

        Args:
            squares: uint8 [N, size, size], of `fit`; N >= 1.

        Returns:
            Logits and distances; None for the distances if the version does not know them.

        Raises:
            DataRefused: an answer is not finite.
        """
        if self._measure is None:
            return self.logits(squares), None
        logits, features = self.network.seen(squares)
        return self._finite(logits), self._measure(features)

    def _finite(self, answers: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(answers).all():
            raise DataRefused(f"{self}: an answer that is no number.")
        return answers

    def maps(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What each place of views adds to their logits, float32 [N, h, w]; the grid covers the square evenly.

        Args:
            squares: uint8 [N, size, size], of `fit`; N >= 1.
        """
        return self.network.maps(squares)

    def study(
        self, logits: NDArray[np.float32], body_part: str, distances: NDArray[np.float32] | None = None
    ) -> Prediction:
        """The answer to a study.

        Args:
            logits: float32 [N], of its views; N >= 1.
            body_part: as manifests have it, such as `wrist`; empty if it is not known.
            distances: float32 [N], of its views, if they are known.
        """
        logit, _ = study_logit(logits, np.full(len(logits), "study"))
        probability = float(self.probabilities(logit, np.array([body_part]))[0])
        pooled = body_part not in self.card.offsets.body_part
        if distances is None or self.card.familiarity is None:
            return Prediction(probability, probability >= self.threshold, pooled)
        unlike, distance = self.unlike(distances), float(distances.max())
        if unlike:
            return Prediction(None, False, pooled, unlike, distance)
        return Prediction(probability, probability >= self.threshold, pooled, (), distance)

    def unlike(self, distances: NDArray[np.float32] | None) -> tuple[int, ...]:
        """The numbers of views that are unlike the training pictures.

        Args:
            distances: float32 [N], of `asked`.
        """
        if distances is None or self.card.familiarity is None:
            return ()
        return tuple(np.flatnonzero(is_unlike(distances, self.card.familiarity)).tolist())

    def probabilities(self, logit: NDArray[np.float64], body_part: NDArray[np.str_]) -> NDArray[np.float64]:
        """The calibrated probabilities of studies, float64 [S].

        Args:
            logit: float64 [S], of the mean probability of the views.
            body_part: str [S].
        """
        return np.asarray(calibration.probability(self._line, logit, self.offset(body_part)), np.float64)

    def offset(self, body_part: NDArray[np.str_]) -> NDArray[np.float64]:
        """What is taken off the logits of studies, by body part, float64 [S]."""
        return np.asarray(offsets.of_studies(self.card.offsets, body_part), np.float64)


def _verify(folder: Path) -> None:
    """Verify the signature of a version that `mura fetch` wrote."""
    # Its libraries take more than a second. A server verifies in a process of its own.
    from components.signing import directory

    if not (folder / predictor.CARD).is_file():
        raise UsageError(
            f"{folder}: expected a directory that `mura fetch` wrote, or {predictor.REGISTERED}NAME@ALIAS."
        )
    directory.verify(folder)
