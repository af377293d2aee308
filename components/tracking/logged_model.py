"""A network as MLflow keeps it: loadable by anyone who has MLflow and Keras."""

import warnings
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from components.tracking import server

if TYPE_CHECKING:
    import keras
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel


def log(
    client: "MlflowClient",
    experiment_id: str,
    run_id: str,
    name: str,
    model: "keras.Model",
    example: "np.ndarray[Any, Any] | None",
    tags: dict[str, str],
) -> str:
    """Store a network as the output of a run, without touching MLflow's notion of an active run.

    Args:
        client: of the server.
        experiment_id: of the run.
        run_id: which made the model; its parameters become the model's.
        name: of the logged model.
        model: takes pixels [n, S, S, 1] and gives logits [n, 1].
        example: uint8 [n, S, S, 1]; a ramp of grey levels if None.
        tags: of the logged model.

    Returns:
        `models:/m-...`, ready.

    Raises:
        ServiceUnreachable: MLflow or its artifact store does not answer.
    """
    from mlflow.entities import LoggedModelOutput

    with server.refusals("storing the model"):
        logged = client.create_logged_model(
            experiment_id,
            name=name,
            source_run_id=run_id,
            tags=tags,
            params=client.get_run(run_id).data.params,
            model_type="image classifier",
        )
    with TemporaryDirectory() as folder:
        _save(model, example, logged, Path(folder))
        with server.refusals("storing the model"):
            client.log_model_artifacts(logged.model_id, folder)
            client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
            client.finalize_logged_model(logged.model_id, "READY")
    return f"models:/{logged.model_id}"


def _save(model: "keras.Model", example: "np.ndarray[Any, Any] | None", logged: "LoggedModel", folder: Path) -> None:
    import numpy as np

    with warnings.catch_warnings():
        # MLflow warns of the type hints of its own classes when it is imported.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
        import mlflow.keras
        import mlflow.pyfunc  # which saving imports
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    _, height, width, channels = model.input_shape
    # uint8 is what a grey image is in every library, a quarter of the size, and what its JSON is read back as. MLflow
    # takes no other type then: pixels that someone scaled to [0, 1] are refused instead of being called normal.
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, height, width, channels))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1))]),
    )
    # The folder exists, which MLflow 3.17's `log_model` forgets to see to before it writes the example (mlflow #16183).
    mlflow.keras.save_model(
        model,
        str(folder),
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            run_id=logged.source_run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        ),
        signature=signature,
        input_example=_ramp(height, width, channels) if example is None else np.asarray(example, np.uint8),
        # Else MLflow finds them out by loading the model in a new process, which takes 13 s.
        pip_requirements=_requirements(),
    )


def _ramp(height: int, width: int, channels: int) -> "np.ndarray[Any, Any]":
    import numpy as np

    levels = np.linspace(0, 255, width).astype(np.uint8)
    return np.broadcast_to(levels[None, None, :, None], (1, height, width, channels)).copy()


def _requirements() -> list[str]:
    import tensorflow as tf

    # TensorFlow comes under several names, of which this one is everywhere.
    return [f"tensorflow=={tf.__version__}", *(f"{name}=={metadata.version(name)}" for name in ("keras", "numpy"))]
