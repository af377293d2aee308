from collections.abc import Callable
from pathlib import Path

import pytest
from miniature import archive, manifest, pack, prove, use_cores, write_zip

from components.artifacts.trained_model import TrainedModel
from components.base.errors import DataRefused
from components.evaluate import evaluate
from components.params.evaluate import EvaluateParams


def test_shards_of_another_manifest_are_not_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Callable[..., TrainedModel]
) -> None:
    use_cores(1, monkeypatch)
    path = write_zip(tmp_path / "MURA-v1.1.zip", archive())
    mine, other = (
        prove(manifest(path, tmp_path / f"manifest-{seed}", seed=seed), tmp_path / f"valid-{seed}") for seed in (1, 2)
    )
    shards = pack(path, mine, tmp_path / "shards")
    model = make_model(data_digest=shards.facts.data_digest)
    params = EvaluateParams(operating_point="kappa", target=0.9, bootstrap_draws=2000, batch_size=8)
    with pytest.raises(DataRefused, match=r"shards: expected shards of data set \w{12} of .*valid-2, got those of"):
        evaluate(other, shards, model, params, 1, tmp_path / "evaluation")
