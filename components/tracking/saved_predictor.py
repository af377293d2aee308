"""The files of a predictor as MLflow wants them. Importing this module imports TensorFlow."""

import base64
import warnings
from importlib import metadata
from pathlib import Path

import cv2
import keras
import numpy as np
import onnx
import pandas as pd
from mlflow.entities import LoggedModel
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array

from components.artifacts import predictor
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrainedModel
from components.golden import replaying
from components.network import predictor_files
from components.signing import directory
from components.tracking import evidence_files
from components.tracking.evidence_files import Bound

with warnings.catch_warnings():
    # As in `logged_model`.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    import mlflow.pyfunc

LOADER = "components.predict.pyfunc"
"""Of this package: no code lies in the registry."""
# MLflow's arrays of bytes lose zeros at the end, which DICOM files have, and take the base64 of JSON for the picture
# itself. So the loader looks at every picture, and MLflow at none.
INPUTS = Schema(
    [
        ColSpec(DataType.string, "study"),
        ColSpec(DataType.string, "part", required=False),
        ColSpec(Array(AnyType()), "images"),
    ]
)
OUTPUTS = Schema(
    [
        ColSpec(DataType.string, "study"),
        ColSpec(DataType.double, "probability"),
        ColSpec(DataType.string, "verdict"),
        ColSpec(DataType.double, "threshold"),
        ColSpec(DataType.string, "operating_point"),
        ColSpec(DataType.string, "model_digest"),
        ColSpec(Array(DataType.string), "notes"),
    ]
)


def save(model: TrainedModel, evaluation: Evaluation, logged: LoggedModel, folder: Path, name: str) -> None:
    """Write the directory of a predictor, for Keras, ONNX Runtime and studies, with its evidence, and sign it.

    Args:
        model: what answers.
        evaluation: of that model.
        logged: the logged model that it becomes.
        folder: an empty directory.
        name: of the registered model.
    """
    mlflow_model = Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        signature=ModelSignature(inputs=INPUTS, outputs=OUTPUTS),
    )
    mlflow_model.add_flavor(
        "keras",
        data=str(predictor.DATA),
        keras_version=keras.__version__,
        keras_backend=keras.backend.backend(),
        save_exported_model=False,
    )
    mlflow_model.add_flavor(
        "onnx", onnx_version=onnx.__version__, data=str(predictor.ONNX), providers=["CPUExecutionProvider"]
    )
    with warnings.catch_warnings():
        # MLflow compares the columns of the example with a range.
        warnings.filterwarnings("ignore", message="Operation with range is deprecated", category=DeprecationWarning)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            mlflow_model=mlflow_model,
            input_example=example(),
            # Without TensorFlow, which only the Keras flavour needs: MLflow imports what is named here to learn its
            # version, and then a scoring server would have it in memory.
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in ("mlflow", "numpy", "onnxruntime")],
        )
    # After MLflow's own files, since MLflow writes into an empty directory only.
    predictor_files.write(model, evaluation, folder)
    # By this file MLflow's Keras flavour knows which Keras saved the network.
    (folder / predictor.DATA / "keras_module.txt").write_text("keras")
    evidence_files.write(model, evaluation, Bound(name, logged.source_run_id, logged.model_id), folder)
    replaying.write(folder)
    mlflow_model.model_size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    mlflow_model.save(str(folder / "MLmodel"))
    # Last: the signature is over every file.
    directory.sign(folder)


def example() -> pd.DataFrame:
    """A drawn picture, since no patient's image may travel with a model: a bright bar on a ramp of grey levels."""
    grey = np.tile(np.linspace(0, 120, 96, dtype=np.uint8), (128, 1))
    cv2.line(grey, (48, 4), (48, 123), 230, 18)
    done, png = cv2.imencode(".png", grey)
    assert done, "OpenCV encodes every uint8 image"
    return pd.DataFrame({"study": ["drawn"], "part": ["wrist"], "images": [[base64.b64encode(png.tobytes()).decode()]]})
