"""Writes the files of a predictor: the network for Keras and for ONNX Runtime, and the card."""

from pathlib import Path

from components.artifacts import predictor
from components.artifacts.evaluation import Evaluation
from components.artifacts.predictor import PredictorCard
from components.artifacts.trained_model import TrainedModel
from components.base.files import file_sha256, write_bytes, write_text
from components.network import architectures, onnx_export


def write(model: TrainedModel, evaluation: Evaluation, folder: Path) -> PredictorCard:
    """Write the data of a predictor; `components.artifacts.predictor` draws the directory.

    Args:
        model: what answers.
        evaluation: of that model.
        folder: the directory; it is made.

    Raises:
        DataRefused: the weights do not belong to the architecture on the model's card.
    """
    network = architectures.load(model)
    (folder / predictor.DATA).mkdir(parents=True, exist_ok=True)
    network.save(folder / predictor.NETWORK)
    write_bytes(folder / predictor.ONNX, onnx_export.content(network, evaluation.facts.flips))
    digests = (file_sha256(folder / each) for each in (predictor.NETWORK, predictor.ONNX))
    card = PredictorCard.of(model, evaluation, *digests)
    write_text(folder / predictor.CARD, card.model_dump_json(indent=2) + "\n")
    return card
