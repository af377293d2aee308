"""A small network with random weights, evaluated and registered as the champion."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml
from conftest import seal_model
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import RegisteredModel
from components.artifacts.shards import Shards
from components.artifacts.trained_model import WEIGHTS, Offsets, TrainedModel
from components.evaluate import evaluate
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.params.register import RegisterParams
from components.params.train import TrainParams
from components.register import register
from components.tracking import model_registry

DEMO = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())


class Registered(NamedTuple):
    folder: Path
    """Has archive.zip, and mlflow.db with the champion `mura` version 1."""
    studies: pd.DataFrame
    """As `mura evaluate` wrote it."""
    threshold: float
    made: Path
    """Has the `model` and the `evaluation` that were registered."""


def register_small(folder: Path, mlflow_database: Path, false_alarms: float) -> Registered:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(mlflow_database, folder / "mlflow.db")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        found, versions = register_each(folder, "mura", (1,), false_alarms)
        model_registry.set_alias(versions[0], "champion")
    return Registered(
        folder, pd.read_parquet(found.path / "studies.parquet"), found.facts.scores.threshold, found.path.parent
    )


def register_each(
    folder: Path, name: str, seeds: Sequence[int], false_alarms: float = 0.01
) -> tuple[Evaluation, list[RegisteredModel]]:
    """Register small networks where MLFLOW_TRACKING_URI says.

    Args:
        folder: for what they are made of.
        name: of the registered model.
        seeds: of their weights, one for each version.
        false_alarms: of the protocol.

    Returns:
        The evaluation of the last one, and the versions.
    """
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(folder / "archive.zip", archive(images(train=56, valid=28)))
        valid = prove(manifest(path, folder / "manifest"), folder / "valid")
        shards = pack(path, valid, folder / "shards")
        versions = []
        for seed in seeds:
            place = folder / f"candidate{seed}"
            model = _model(place, shards, path, seed)
            for each in ("evaluation", "registration"):
                (place / each).mkdir()
            rules = ProtocolParams(**DEMO["protocol"])
            params = EvaluateParams(batch_size=8, flips=True, false_alarms=false_alarms)
            found = evaluate(valid, shards, model, params, rules, 1, place / "evaluation")
            made = register([model], [found], RegisterParams(model=name), place / "registration")
            versions.append(made.facts.versions[0])
    return found, versions


def _model(place: Path, shards: Shards, archived: Path, seed: int) -> TrainedModel:
    from components.network import architectures

    place.mkdir()
    document = DEMO["train"]["default"] | {"candidate": "small", "architecture": "custom_cnn", "width": 8}
    network = architectures.build(TrainParams(**document), 32, seed=seed, augment=False)
    network.save_weights(place / WEIGHTS)
    return seal_model(
        place / "model",
        "custom_cnn",
        (place / WEIGHTS).read_bytes(),
        candidate="small",
        params=document,
        offsets=Offsets(body_part={"wrist": 0.3, "hand": 1.0}, pooled=-0.1),
        data_digest=shards.facts.data_digest,
        shards_digest=shards.digest,
        archive_md5=hashlib.md5(archived.read_bytes(), usedforsecurity=False).hexdigest(),
    )
