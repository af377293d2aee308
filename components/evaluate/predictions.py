"""Ask a model about every tuning and test image."""

import numpy as np
import pandas as pd

from components.artifacts.manifest import TEST, TUNING
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.base.errors import DataRefused
from components.network import architectures, batches


def predict(shards: Shards, model: TrainedModel, batch_size: int) -> pd.DataFrame:
    """Predict the images of the tuning and test splits.

    Returns:
        One row per image, ascending by split and image: image, study, patient, body_part, split, abnormal, logit.

    Raises:
        DataRefused: a logit is not finite.
    """
    network = architectures.load(model)
    tables = []
    for split in (TUNING, TEST):
        images = batches.read_split(shards, split)
        with batches.reading(images):
            answers = network.predict(batches.in_order(images, batch_size), verbose=0)
        logit = np.asarray(answers, dtype=np.float32)[:, 0]
        strays = np.flatnonzero(~np.isfinite(logit))
        if strays.size:
            raise DataRefused(
                f"{model.path}: expected a finite logit for every image, got {logit[strays[0]]} for "
                f"{images.image[strays[0]]} ({strays.size} in {split}). Its training diverged; train it again."
            )
        table = pd.DataFrame(
            {
                "image": images.image,
                "study": images.study,
                "patient": images.patient,
                "body_part": images.body_part,
                "split": split,
                "abnormal": images.abnormal,
                "logit": logit,
            }
        )
        tables.append(table.sort_values("image", ignore_index=True))
    return pd.concat(tables, ignore_index=True)
