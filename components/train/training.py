"""Train one network."""

import csv
import logging
import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from components.artifacts.manifest import TRAIN, TUNING
from components.artifacts.shards import Shards
from components.artifacts.trained_model import CURVES, WEIGHTS, TrackedRun, TrainedModel, TrainedModelFacts
from components.base.errors import DataRefused, UsageError
from components.base.files import CHECKPOINT, json_sha256, write_text
from components.base.progress import Bar
from components.params.train import TrainParams
from components.train import mirror, multi_worker

if TYPE_CHECKING:
    import keras
    import numpy as np

    from components.network.batches import Split

logger = logging.getLogger(__name__)

COLUMNS = ("epoch", "phase", "learning_rate", "loss", "tuning_loss", "tuning_auroc")


class Phase(NamedTuple):
    """A stretch of epochs with one optimiser."""

    name: str
    epochs: int
    peak: float
    """Learning rate after the warm-up."""


class State(BaseModel):
    """How far a training has come; with the arrays beside it, enough to go on as if nothing had happened."""

    run_id: str
    precision: str
    phase: int = 0
    epoch_in_phase: int = 0
    """Epochs completed."""
    curves: list[dict[str, Any]] = []
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """Epochs completed over all phases."""
        return len(self.curves)


def run(shards: Shards, params: TrainParams, seed: int, out: Path) -> TrainedModel:
    """Do what `components.train.train` says."""
    from components.network import backend

    backend.prepare()
    from components import tracking
    from components.base import provenance
    from components.network import architectures, batches

    worker = multi_worker.join()
    precision, device = backend.precision(params.precision), backend.device()
    if worker.place.size > 1:
        device = f"{worker.place.size} x {device}"
    splits = {TRAIN: batches.read_split(shards, TRAIN, params.residence), TUNING: batches.read_split(shards, TUNING)}
    if shared := set(splits[TRAIN].patient) & set(splits[TUNING].patient):
        raise DataRefused(f"{shards.path}: {len(shared)} patients are in train and in tuning, such as {min(shared)}.")
    logger.info(
        "train: %s, %s images of %s px %s, tuning %s, %s on %s",
        params.architecture,
        f"{len(splits[TRAIN]):,}",
        shards.facts.image_size,
        splits[TRAIN].residence,
        f"{len(splits[TUNING]):,}",
        precision,
        device,
    )
    _meet(worker, shards, params, seed, precision)
    checkpoint = Checkpoint(out / CHECKPOINT)
    state = checkpoint.state(precision)
    revision, environment = provenance.code_revision(), provenance.environment()
    with tracking.training_run(
        architecture=params.architecture,
        run_id=state.run_id if state else None,
        params={**params.model_dump(mode="json"), "seed": seed, "image_size": shards.facts.image_size},
        tags={
            "data_digest": shards.facts.data_digest,
            **({"archive_md5": shards.facts.archive_md5} if shards.facts.archive_md5 else {}),
            "shards_digest": shards.digest,
            "code_revision": revision,
            "device": device,
            "precision_used": precision,
        },
        dataset=tracking.Dataset(
            name="mura",
            source=str(shards.path),
            # DVC's name for the archive, so that whoever sees the run finds the bytes.
            digest=shards.facts.archive_md5 or shards.facts.data_digest,
            images={name: split.images for name, split in shards.facts.splits.items()},
        ),
        environment=environment,
    ) as run:
        state = state or State(run_id=run.run_id, precision=precision)
        # A server that does not know the run of before has made a new one.
        state.run_id = run.run_id
        checkpoint.begin(state)
        # What the run of before was not told any more; twice does no harm.
        for row in state.curves:
            run.log_epoch(row["epoch"], {name: row[name] for name in COLUMNS[2:]})
        worker.from_chief(state.model_dump_json().encode())
        model = _build(worker, shards, params, seed, precision)
        if architectures.is_pretrained(params) and not state.epochs:
            architectures.load_pretrained(model, params)
        _fit(model, state, checkpoint, splits, shards, params, seed, run, worker)

        best = state.curves[_best(state)]
        # Copied: should MLflow not take the model, the next attempt needs the checkpoint whole.
        shutil.copyfile(checkpoint.best_weights(best["epoch"]), out / WEIGHTS)
        _write_curves(out / CURVES, state.curves)
        run.log_file(out / CURVES, "")
        facts = TrainedModelFacts(
            candidate=params.candidate,
            architecture=params.architecture,
            image_size=shards.facts.image_size,
            parameters=model.count_params(),
            params=params.model_dump(mode="json"),
            seed=seed,
            precision=precision,
            device=device,
            phases=tuple(phase.name for phase in phases(params)),
            epochs=state.epochs,
            best_epoch=best["epoch"],
            tuning={"auroc": best["tuning_auroc"], "loss": best["tuning_loss"]},
            seconds=round(state.seconds, 1),
            data_digest=shards.facts.data_digest,
            archive_md5=shards.facts.archive_md5,
            shards_digest=shards.digest,
            code_revision=revision,
            environment=environment,
            run=TrackedRun(run_id=run.run_id, model_uri=""),
        )
        # What is logged is what is kept: read back from the file, in float32, as everyone else will.
        kept = architectures.load(TrainedModel(out, facts, ""))
        # Without an example of ours: no patient's image travels with a model.
        model_uri = run.log_model(kept)
        facts = facts.model_copy(update={"run": TrackedRun(run_id=run.run_id, model_uri=model_uri)})
    logger.info(
        "train: %s, best of %s epochs was %s: tuning AUROC %.3f, %s",
        params.architecture,
        state.epochs,
        best["epoch"],
        best["tuning_auroc"],
        f"{state.seconds:.0f} s",
    )
    return TrainedModel.seal(out, facts)


def assist(shards: Shards, params: TrainParams, seed: int) -> None:
    """Train the network of another process, the chief, with it: share its steps, and keep and tell nothing.

    Args:
        shards: those of the chief.
        params: those of the chief.
        seed: that of the chief.

    Raises:
        DataRefused: the shards are damaged.
        UsageError: the chief was given something else.
        ServiceUnreachable: the chief or another worker is gone.
    """
    from components.network import backend

    backend.prepare()
    from components.network import batches

    worker = multi_worker.join()
    precision = backend.precision(params.precision)
    split = batches.read_split(shards, TRAIN, params.residence)
    logger.info("train: %s, worker %s of %s, %s", params.architecture, *worker.place, precision)
    _meet(worker, shards, params, seed, precision)
    state = State.model_validate_json(worker.from_chief(b""))
    model = _build(worker, shards, params, seed, precision)
    weights = _loss_weights(split, shards, params)
    while state.phase < len(phases(params)):
        phase = phases(params)[state.phase]
        trained = _ready(model, phase, split, params, worker)
        worker.align(_variables(trained))
        train_epoch = worker.trainer(trained)
        while state.epoch_in_phase < phase.epochs and not _exhausted(state, params):
            _train_epoch(train_epoch, trained, state, split, weights, params, seed, worker)
            state = State.model_validate_json(worker.from_chief(b""))
        state.phase += 1
        state.epoch_in_phase = 0
    logger.info("train: %s, worker %s of %s has done its share; the chief writes", params.architecture, *worker.place)


def phases(params: TrainParams) -> tuple[Phase, ...]:
    """Head first, then all layers, when the backbone has something to lose; else all layers at once."""
    everything = Phase("all", params.epochs, params.learning_rate)
    if params.weights == "none" or not params.head_epochs:
        return (everything,)
    return Phase("head", params.head_epochs, params.head_learning_rate), everything


class Checkpoint:
    """The directory a training goes on from.

    checkpoint/
        state.json              points at the other two; replaced last, so it never promises what is not there
        epoch-<n>.npz           all variables of model and optimiser after epoch n, random states included
        best-<n>.weights.h5     the model after epoch n, the best so far
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path / "state.json"

    def state(self, precision: str) -> State | None:
        """What was saved, if anything, in the same precision; here, or on a machine that was taken away."""
        mirror.fetch(self.path)
        state = State.model_validate_json(self._file.read_text()) if self._file.is_file() else None
        if state is not None and state.precision != precision:
            logger.warning("train: what was begun in %s is not gone on with in %s", state.precision, precision)
            return None
        return state

    def begin(self, state: State) -> None:
        """Remember the run before the first epoch."""
        write_text(self._file, state.model_dump_json())
        mirror.keep(self.path)

    def best_weights(self, epoch: int) -> Path:
        """Where the weights of a best epoch are kept."""
        return self.path / f"best-{epoch}.weights.h5"

    def save(self, model: "keras.Model", state: State, best_epoch: int) -> None:
        """Save everything after an epoch, then forget what came before."""
        import numpy as np

        variables = {f"{i:05d}": np.asarray(variable) for i, variable in enumerate(_variables(model))}
        file = self.path / f"epoch-{state.epochs}.npz"
        np.savez(file, allow_pickle=False, **variables)
        write_text(self._file, state.model_dump_json())
        keep = {file, self.best_weights(best_epoch)}
        for old in (*self.path.glob("epoch-*.npz"), *self.path.glob("best-*.weights.h5")):
            if old not in keep:
                old.unlink()
        mirror.keep(self.path)

    def restore(self, model: "keras.Model", state: State) -> None:
        """Put every variable back as it was after the last completed epoch."""
        import numpy as np

        with np.load(self.path / f"epoch-{state.epochs}.npz", allow_pickle=False) as saved:
            for i, variable in enumerate(_variables(model)):
                variable.assign(saved[f"{i:05d}"])


def _meet(worker: multi_worker.Worker, shards: Shards, params: TrainParams, seed: int, precision: str) -> None:
    """Make sure that all workers are to do the same.

    Raises:
        UsageError: they are not.
    """
    worker.agree(
        lambda: json_sha256([shards.digest, params.model_dump(mode="json"), seed, precision]),
        "train: the workers have different shards, parameters, seeds or precisions; start all of them with the same, "
        "and on processors of one kind.",
    )


def _build(
    worker: multi_worker.Worker, shards: Shards, params: TrainParams, seed: int, precision: str
) -> "keras.Model":
    from components.network import architectures

    with worker.scope():
        return architectures.build(
            params,
            shards.facts.image_size,
            seed=seed,
            precision=precision,
            synchronized=worker.place.size > 1,
        )


def _ready(
    model: "keras.Model", phase: Phase, split: "Split", params: TrainParams, worker: multi_worker.Worker
) -> "keras.Model":
    """The network as it is trained in a phase, on the batches of a split."""
    from components.network import architectures, batches

    if phase.name == "head" or architectures.is_pretrained(params):
        architectures.set_backbone_trainable(model, phase.name != "head")
    with worker.scope():
        trained = batches.fed(model, split)
        _compile(trained, phase, params, len(split))
    return trained


def _fit(
    model: "keras.Model",
    state: State,
    checkpoint: Checkpoint,
    splits: "dict[str, Split]",
    shards: Shards,
    params: TrainParams,
    seed: int,
    run: Any,
    worker: multi_worker.Worker,
) -> None:
    """Train from `state` to the end, epoch by epoch."""
    weights = {name: _loss_weights(split, shards, params) for name, split in splits.items()}
    planned = sum(phase.epochs for phase in phases(params))
    predict = worker.predictor(model)
    while state.phase < len(phases(params)):
        phase = phases(params)[state.phase]
        trained = _ready(model, phase, splits[TRAIN], params, worker)
        if state.epoch_in_phase:
            checkpoint.restore(trained, state)
            logger.info("train: %s goes on after epoch %s", params.architecture, state.epochs)
        worker.align(_variables(trained))
        train_epoch = worker.trainer(trained)
        while state.epoch_in_phase < phase.epochs and not _exhausted(state, params):
            started = time.monotonic()
            loss = _train_epoch(train_epoch, trained, state, splits[TRAIN], weights[TRAIN], params, seed, worker)
            row = _measure_epoch(predict, loss, state, phase, splits, weights[TUNING], params)
            state.curves.append(row)
            state.epoch_in_phase += 1
            state.seconds += time.monotonic() - started
            worker.from_chief(state.model_dump_json().encode())
            if _best(state) == state.epochs - 1:
                model.save_weights(checkpoint.best_weights(state.epochs))
            checkpoint.save(trained, state, state.curves[_best(state)]["epoch"])
            run.log_epoch(state.epochs, {name: row[name] for name in COLUMNS[2:]})
            logger.info(
                "train: %s epoch %s of %s (%s): loss %.4f, tuning loss %.4f, tuning AUROC %.3f",
                params.architecture,
                state.epochs,
                planned,
                phase.name,
                row["loss"],
                row["tuning_loss"],
                row["tuning_auroc"],
            )
        state.phase += 1
        state.epoch_in_phase = 0


def _train_epoch(
    train_epoch: multi_worker.Epoch,
    trained: "keras.Model",
    state: State,
    split: "Split",
    weights: "np.ndarray[Any, Any]",
    params: TrainParams,
    seed: int,
    worker: multi_worker.Worker,
) -> float:
    """Train the next epoch, and return its mean loss."""
    from components.network import batches

    number = state.epochs + 1
    order = batches.training_batches(split, weights, params.batch_size, seed, number, worker.place)
    bar = Bar(_steps(len(split), params), f"train: {params.architecture} epoch {number}, step")
    with bar, batches.reading(split):
        loss = train_epoch(order, bar.advance)
    worker.agree(
        lambda: multi_worker.digest(_variables(trained)),
        f"train: after epoch {number} the weights of the workers differ; processors of one kind have the same.",
    )
    return loss


def _measure_epoch(
    predict: multi_worker.Predict,
    loss: float,
    state: State,
    phase: Phase,
    splits: "dict[str, Split]",
    weights: "np.ndarray[Any, Any]",
    params: TrainParams,
) -> dict[str, Any]:
    """The row of curves of the epoch that was just trained."""
    import numpy as np

    from components.network import batches

    number, steps = state.epochs + 1, _steps(len(splits[TRAIN]), params)
    middle = state.epoch_in_phase * steps + steps // 2
    learning_rate = float(_schedule(phase, params, len(splits[TRAIN]))(middle))
    with batches.reading(splits[TUNING]):
        logit = predict(batches.in_order(splits[TUNING], params.batch_size))
    if not (math.isfinite(loss) and np.isfinite(logit).all()):
        raise UsageError(
            f"train: {params.architecture} diverged in epoch {number} (loss {loss:g}); "
            f"lower its learning_rate ({params.learning_rate:g})."
        )
    tuning_loss, tuning_auroc = _measure(logit, splits[TUNING], weights)
    values = (number, phase.name, learning_rate, loss, tuning_loss, tuning_auroc)
    return dict(zip(COLUMNS, values, strict=True))


def _best(state: State) -> int:
    """The epoch of the best tuning AUROC; of several, the one with the lowest tuning loss."""
    curves = state.curves
    return max(range(len(curves)), key=lambda i: (curves[i]["tuning_auroc"], -curves[i]["tuning_loss"]))


def _exhausted(state: State, params: TrainParams) -> bool:
    """Whether the last `patience` epochs of this phase brought nothing better."""
    if state.epoch_in_phase <= params.patience:
        return False
    return state.epochs - 1 - _best(state) >= params.patience


def _schedule(phase: Phase, params: TrainParams, images: int) -> Any:
    """Learning rate by step of a phase: a linear rise to the peak, then half a cosine down to nothing."""
    import keras

    steps = phase.epochs * _steps(images, params)
    warmup = int(steps * params.warmup)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else phase.peak,
        decay_steps=max(1, steps - warmup),
        warmup_target=phase.peak if warmup else None,
        warmup_steps=warmup,
    )


def _compile(model: "keras.Model", phase: Phase, params: TrainParams, images: int) -> None:
    import keras

    schedule = _schedule(phase, params, images)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=params.weight_decay)
    # Shrinking biases and the scales of normalisation regularises nothing.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # XLA is left out: compiling takes longer than a demonstration, and on some GPUs it fails.
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    optimizer.build(model.trainable_variables)


def _steps(images: int, params: TrainParams) -> int:
    """Batches in an epoch; the last one may be smaller."""
    return -(-images // params.batch_size)


def _measure(logit: "np.ndarray[Any, Any]", split: "Split", weights: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """Weighted loss over the images of a split, and AUROC over its studies."""
    import numpy as np

    from components.scores import studies

    logit = logit.astype(np.float64)
    # Binary cross-entropy of a logit z is log(1 + exp(z)) - y z.
    loss = float(np.mean(weights * (np.logaddexp(0, logit) - split.abnormal * logit)))
    probability = studies.sigmoid(logit)
    tuning = studies.Studies.of_images(split.study, split.patient, split.body_part, split.abnormal, probability)
    auroc = studies.auroc(tuning.abnormal, tuning.probability)
    if auroc is None:
        raise DataRefused("train: the tuning split has studies of one label only; nothing can be measured on it.")
    return loss, auroc


def _loss_weights(split: "Split", shards: Shards, params: TrainParams) -> "np.ndarray[Any, Any]":
    import numpy as np

    from components.network import batches

    if params.class_weighting == "none":
        return np.ones(len(split), np.float32)
    weights: np.ndarray[Any, Any] = batches.loss_weights(split.abnormal, split.body_part, shards.facts.train_images)
    return weights


def _variables(model: "keras.Model") -> list[Any]:
    # The states of augmentation and dropout are among the model's variables.
    return [*model.variables, *model.optimizer.variables]


def _write_curves(path: Path, curves: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(curves)
