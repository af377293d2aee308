"""The training of one network: one loop for the chief and for the workers beside it."""

import csv
import logging
import math
import os
import socket
import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from components import tracking
from components.artifacts.manifest import TRAIN
from components.artifacts.shards import Shards
from components.artifacts.trained_model import CURVES, WEIGHTS, TrackedRun, TrainedModel, TrainedModelFacts
from components.base import code, patience, provenance, space
from components.base.errors import DataRefused, Diverged, OutsideFailed, Terminated, first_line
from components.base.files import CHECKPOINT, file_sha256, json_sha256
from components.base.progress import Bar, duration
from components.base.variables import KUBEFLOW_RUN
from components.kubeflow import train_job
from components.network import architectures, backend, batches, weights_file
from components.params.train import TrainParams
from components.scores import offsets
from components.tracking.stored_model import WEIGHTS_FILE_SHA256
from components.train import multi_worker, phases, termination
from components.train.averaging import Averages
from components.train.checkpoint import Checkpoint
from components.train.phases import Phase
from components.train.state import Doubtful, Epoch, Origin, State
from components.train.termination import Termination
from components.train.tuning import Measures, Tuning, loss_weights

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


def run(shards: Shards, params: TrainParams, seed: int, out: Path) -> TrainedModel:
    """Train a network as the chief, or alone. See `components.train.train`."""
    checkpoint = Checkpoint(out / CHECKPOINT)
    with termination.listening() as listener:
        try:
            state, facts = _train(Training(shards, params, seed, listener), checkpoint)
        except Terminated:
            raise Terminated(_last_words(params.candidate, checkpoint)) from None
    logger.info(
        "train: %s, best of %s epochs was %s: tuning AUROC %.3f, %s",
        params.candidate,
        state.epochs,
        state.best.epoch,
        state.best.tuning_auroc,
        duration(state.seconds),
    )
    return TrainedModel.seal(out, facts)


def _train(training: "Training", checkpoint: Checkpoint) -> tuple[State, TrainedModelFacts]:
    """Train to the end, write the model and give it to MLflow."""
    shards, params, out = training.shards, training.params, checkpoint.path.parent
    tuning = Tuning(shards, params)
    if shared := set(training.split.patient) & set(tuning.split.patient):
        raise DataRefused(f"{shards.path}: {len(shared)} patients are in train and in tuning, such as {min(shared)}.")
    logger.info(
        "train: %s, %s images of %s px %s, tuning %s, %s on %s",
        params.candidate,
        f"{len(training.split):,}",
        shards.facts.image_size,
        training.split.residence,
        f"{len(tuning.split):,}",
        training.precision,
        training.device,
    )
    description = _description(training)._replace(key=_key(training, out))
    state = training.begin(tuning, checkpoint)
    if not state.epochs:
        architectures.check_pretrained(params)  # before MLflow gets a run
    with tracking.training_run(description, state.run_id or None) as tracked:
        # A server that does not have the previous run has made a new one. Without a server it stays the training's:
        # `mura register` goes on with it.
        state.run_id = tracked.run_id or state.run_id
        if tracked.run_id:
            _expect_copy(training)
        checkpoint.begin(state)
        # Send the epochs that the previous run may have missed.
        for row in state.curves:
            tracked.log_epoch(row.epoch, row.metrics)
        state = training.fit(state, Chief(tuning, checkpoint, tracked))

        checkpoint.copy_best(state, out / WEIGHTS)
        # MLflow gets the network that everyone else will load: from the file, in float32.
        network = training.load(out / WEIGHTS)
        try:
            measures = training.measured_again(network, state, tuning)
        except Doubtful as doubt:
            raise OutsideFailed(
                f"train: the checkpoint {doubt}. Both numbers are of this training: the memory of this machine may be "
                "broken. The same command goes on if the weights then measure what they should, or trains anew."
            ) from doubt
        _write_curves(out / CURVES, state.curves)
        tracked.log_file(out / CURVES)
        facts = _facts(training, description, state, measures)
        with space.named(Path(tempfile.gettempdir())):
            run = TrackedRun(
                run_id=state.run_id,
                model_uri=tracked.log_model(network, {WEIGHTS_FILE_SHA256: file_sha256(out / WEIGHTS)}),
            )
    return state, facts.model_copy(update={"run": run})


def _expect_copy(training: "Training") -> None:
    """Check that there is room for the file that goes to MLflow. It is made twice: the weights, and an archive of them.

    Raises:
        OutsideFailed: there is not.
    """
    weights = sum(np.asarray(each).nbytes for each in training.model.variables)
    space.require(
        Path(tempfile.gettempdir()), 2 * weights, "the copy of the model for MLflow (TMPDIR)", largest=weights
    )


def _last_words(candidate: str, checkpoint: Checkpoint) -> str:
    """What a training says that SIGTERM ends."""
    if checkpoint.saved is None:
        return f"train: {candidate} ends before it begins; the same command starts it again."
    epochs = checkpoint.saved.epochs
    if not epochs:
        return f"train: {candidate} ends before an epoch is done; the same command begins anew."
    return (
        f"train: {candidate} ends after epoch {epochs}, which is saved in {checkpoint.keep()}; the same command goes "
        "on from there."
    )


def assist(shards: Shards, params: TrainParams, seed: int) -> None:
    """Train a network as a worker beside the chief. Only the chief measures, saves and reports.

    Args:
        shards: the same as the chief's.
        params: the same as the chief's.
        seed: the same as the chief's.

    Raises:
        DataRefused: the shards are damaged.
        UsageError: the chief has other shards, parameters or another seed.
        OutsideFailed: the chief or another worker is lost, or the device has too little memory.
    """
    termination.at_once()
    training = Training(shards, params, seed)
    place = training.worker.place
    logger.info("train: %s, worker %s of %s, %s", params.candidate, *place, training.precision)
    training.fit(training.begin())
    logger.info("train: %s, worker %s of %s is done; the chief writes the model", params.candidate, *place)


class Chief(NamedTuple):
    """What the chief has and the other workers do not."""

    tuning: Tuning
    checkpoint: Checkpoint
    run: tracking.Run


class Training:
    """A network and its training, in this process."""

    def __init__(self, shards: Shards, params: TrainParams, seed: int, listener: Termination | None = None) -> None:
        """Read the training split and meet the other workers.

        Args:
            shards: where the images are.
            params: architecture and schedule.
            seed: of weights, order, augmentation and dropout.
            listener: hears of SIGTERM; only the chief has something to save.

        Raises:
            DataRefused: the shards are damaged.
            UsageError: the parameters contradict each other, or the workers have different inputs.
            ServiceUnreachable: another worker is lost.
        """
        self.phases = phases.phases(params)
        self._remedy = f"Choose a smaller batch_size than {params.batch_size} for the candidate."
        self._listener = listener or Termination()
        backend.prepare()
        self.worker = multi_worker.join()
        self.shards, self.params, self.seed = shards, params, seed
        self.precision = backend.precision(params.precision)
        size = self.worker.place.size
        self.device = backend.device() if size == 1 else f"{size} x {backend.device()}"
        self.split = batches.read_split(shards, TRAIN, params.residence)
        self._weights = loss_weights(self.split, shards, params)
        weightless = batches.of_one_label(shards.facts.train_images)
        if params.class_weighting == "body_part" and weightless:
            logger.warning(
                "train: %s: all training images of %s have the same label, so they count nothing in the loss. With "
                "class_weighting none they would",
                params.candidate,
                ", ".join(weightless),
            )
        self.origin = Origin(
            shards=shards.digest,
            params=params.model_dump(mode="json"),
            seed=seed,
            precision=self.precision,
            code=code.digest("components.train"),
        )
        self.worker.agree(
            lambda: json_sha256(self.origin.model_dump(exclude={"code"})),
            "train: the workers have different shards, parameters, seeds or precisions. Start all of them with the "
            "same, on processors of one kind.",
        )

    def begin(self, tuning: Tuning | None = None, checkpoint: Checkpoint | None = None) -> State:
        """Build the network, and find out where the training begins.

        Args:
            tuning: None in a worker beside the chief.
            checkpoint: the same. It is believed if its weights measure what it says.

        Raises:
            OutsideFailed: the device has too little memory, there is no room on the disk, or another worker is lost.
        """
        saved = checkpoint.state(self.origin, self.phases) if checkpoint else None
        with backend.memory_errors(self._remedy):
            state = self._from_chief(saved or State(origin=self.origin))
            self._build()
            if checkpoint is not None:
                # AdamW keeps two moments of each weight.
                copies = 4 if self._averages.variables else 3
                checkpoint.expect(sum(np.asarray(each).nbytes for each in self.model.variables), copies)
            if state.epochs:
                # For the optimiser's variables, which the checkpoint has, too.
                self._compile(self.phases[state.phase])
                if tuning is not None and checkpoint is not None:
                    state = self._proven(state, tuning, checkpoint)
                state = self._from_chief(state)
        return state

    def fit(self, state: State, chief: Chief | None = None) -> State:
        """Train to the end, epoch by epoch.

        Args:
            state: where the training begins.
            chief: None in a worker beside the chief.

        Returns:
            The state after the last epoch.

        Raises:
            UsageError: the training diverged, or the weights of the workers differ.
            OutsideFailed: the device has too little memory, or another worker is lost.
        """
        with backend.memory_errors(self._remedy):
            if chief is not None and not state.epochs and architectures.is_pretrained(self.params):
                load = partial(architectures.load_pretrained, self.model, self.params)
                patience.insist(load, patience.seconds(elsewhere=0.0))
            while state.phase < len(self.phases):
                state = self._fit_phase(state, chief)
                state.phase += 1
                state.epoch_in_phase = 0
        return state

    def load(self, weights: Path) -> "keras.Model":
        """The network with the weights of a file, in float32.

        Raises:
            DataRefused: the weights do not belong to the network.
        """
        return architectures.load_weights(weights, self.params, self.shards.facts.image_size, self.seed)

    def measured_again(self, network: "keras.Model", state: State, tuning: Tuning) -> Measures:
        """Measure the weights of the best epoch, as after that epoch: in this training's network and precision.

        Args:
            network: has these weights.
            state: says what they measured then.
            tuning: the split.

        Raises:
            Doubtful: they measure something else.
        """
        self.model.set_weights(network.get_weights())
        measures = tuning.measure(self._predict)
        if not measures.close_to(state.best):
            raise Doubtful(
                f"says a tuning AUROC of {state.best.tuning_auroc:.4f} and a loss of {state.best.tuning_loss:.4f}, but "
                f"its weights measure {measures.auroc:.4f} and {measures.loss:.4f}"
            )
        return measures

    def _proven(self, state: State, tuning: Tuning, checkpoint: Checkpoint) -> State:
        """The saved state if the files beside it are what it says, else that of a training that starts anew."""
        first = [np.array(variable) for variable in self.model.variables]
        try:
            checkpoint.arrays(self._variables, state)
            try:
                network = self.load(checkpoint.best_weights(state))
            except DataRefused as refused:
                raise Doubtful(f"is damaged ({first_line(refused)})") from refused
            self.measured_again(network, state, tuning)
        except Doubtful as doubt:
            checkpoint.reject(doubt)
            for variable, value in zip(self.model.variables, first, strict=True):
                variable.assign(value)
            return State(origin=self.origin)
        return state

    def _from_chief(self, state: State) -> State:
        """The chief's state, in every worker."""
        return State.model_validate_json(self.worker.from_chief(state.model_dump_json().encode()))

    def _build(self) -> None:
        """Build the network; the chief's weights reach the other workers later, with `align`."""
        with self.worker.scope():
            self.model = architectures.build(
                self.params,
                self.shards.facts.image_size,
                seed=self.seed,
                precision=self.precision,
                synchronized=self.worker.place.size > 1,
            )
        self._predict = self.worker.predictor(self.model)
        self._averages = Averages(self.model, self.params.averaging * phases.steps(len(self.split), self.params))

    @property
    def _variables(self) -> list[Any]:
        """All variables of this training. The random states of augmentation and dropout are among the network's."""
        return [*self.model.variables, *self.model.optimizer.variables, *self._averages.variables]

    def _kept(self) -> bytes:
        """The file of the weights that are measured and kept."""
        with self._averages.applied():
            return weights_file.content(self.model)

    def _fit_phase(self, state: State, chief: Chief | None) -> State:
        """Train the rest of a phase."""
        phase = self.phases[state.phase]
        self._compile(phase)
        self._averages.begin()
        if chief is not None and state.epoch_in_phase:
            chief.checkpoint.restore(self._variables, state)
            logger.info("train: %s goes on after epoch %s", self.params.candidate, state.epochs)
        self.worker.align(self._variables)
        train_epoch = self.worker.trainer(self.model)
        while state.epoch_in_phase < phase.epochs and not state.exhausted(self.params.patience):
            started = time.monotonic()
            loss = self._train_epoch(train_epoch, phase, state.epochs + 1)
            with self._listener.deferred():
                if chief is not None:
                    state.curves.append(self._measured(loss, state, chief.tuning))
                    state.epoch_in_phase += 1
                    state.seconds += time.monotonic() - started
                state = self._from_chief(state)
                if chief is not None:
                    chief.checkpoint.save(self._variables, state, self._kept)
            if chief is not None:
                chief.run.log_epoch(state.epochs, state.curves[-1].metrics)
                self._report(state)
        return state

    def _compile(self, phase: Phase) -> None:
        with self.worker.scope():
            phases.compile_for(self.model, phase, self.params, len(self.split))

    def _train_epoch(self, train_epoch: multi_worker.Epoch, phase: Phase, number: int) -> float:
        """Train an epoch and return its mean loss.

        Raises:
            Diverged: a loss is not finite.
        """
        params, place = self.params, self.worker.place
        order = batches.training_batches(self.split, self._weights, params.batch_size, self.seed, number, place)
        bar = Bar(phases.steps(len(self.split), params), f"train: {params.candidate} epoch {number}, step")
        step = count(1)

        def trained(loss: float) -> None:
            done = next(step)
            if not math.isfinite(loss):
                raise self._diverged(phase, number, done)
            self._averages.advance()
            bar.advance()

        with bar, batches.reading(self.split):
            loss = train_epoch(order, trained)
        self.worker.agree(
            lambda: multi_worker.digest(self._variables),
            f"train: after epoch {number} the weights of the workers differ. Start all of them on processors of one "
            "kind.",
        )
        return loss

    def _diverged(self, phase: Phase, epoch: int, step: int) -> Diverged:
        """The error of a batch whose loss is not finite. A line of the log names all images of the batch.

        Args:
            phase: the phase.
            epoch: the epoch, from 1.
            step: the batch in it, from 1.
        """
        size = self.params.batch_size
        order = batches.order_of(len(self.split), self.seed, epoch)
        members = self.split.image[order[(step - 1) * size : step * size]].tolist()
        logger.warning("train: epoch %s, batch %s: %s", epoch, step, ", ".join(members))
        others = f" and {len(members) - 1} more, which the line before names" if len(members) > 1 else ""
        return Diverged(
            f"train: {self.params.candidate} diverged in epoch {epoch}: the loss of batch {step} is not finite "
            f"({members[0]}{others}). Lower its {phase.peak_choice} ({phase.peak:g}), or look at these images."
        )

    def _measured(self, loss: float, state: State, tuning: Tuning) -> Epoch:
        """Measure the epoch that was just trained.

        Raises:
            Diverged: the training diverged.
        """
        phase, number, images = self.phases[state.phase], state.epochs + 1, len(self.split)
        with self._averages.applied():
            measures = tuning.measure(self._predict)
        if not math.isfinite(measures.loss):
            raise Diverged(
                f"train: {self.params.candidate} diverged in epoch {number} (loss {loss:g}, tuning loss "
                f"{measures.loss:g}). Lower its {phase.peak_choice} ({phase.peak:g})."
            )
        steps = phases.steps(images, self.params)
        middle = state.epoch_in_phase * steps + steps // 2
        return Epoch(
            epoch=number,
            phase=phase.name,
            learning_rate=float(phases.schedule(phase, self.params, images)(middle)),
            loss=loss,
            tuning_loss=measures.loss,
            tuning_auroc=measures.auroc,
        )

    def _report(self, state: State) -> None:
        """Tell of the last epoch, and how long the training takes at most from here."""
        row, left = state.curves[-1], _epochs_left(self.phases, state)
        if state.exhausted(self.params.patience):
            # Patience ends this phase here.
            left -= self.phases[state.phase].epochs - state.epoch_in_phase
        train_job.tell(row.epoch, left, left * state.seconds / row.epoch, row.metrics)
        logger.info(
            "train: %s epoch %s of %s (%s): loss %.4f, tuning loss %.4f, tuning AUROC %.3f%s",
            self.params.candidate,
            row.epoch,
            row.epoch + left,
            row.phase,
            row.loss,
            row.tuning_loss,
            row.tuning_auroc,
            f", about {duration(left * state.seconds / row.epoch)} left" if left else "",
        )


def _epochs_left(planned: tuple[Phase, ...], state: State) -> int:
    """How many epochs come at most; patience may end a phase earlier."""
    return sum(phase.epochs for phase in planned[state.phase :]) - state.epoch_in_phase


def _description(training: Training) -> tracking.Description:
    shards, params = training.shards.facts, training.params
    return tracking.Description(
        candidate=params.candidate,
        architecture=params.architecture,
        params={**params.model_dump(mode="json"), "seed": training.seed, "image_size": shards.image_size},
        tags={
            "data_digest": shards.data_digest,
            **({"archive_md5": shards.archive_md5} if shards.archive_md5 else {}),
            "shards_digest": training.shards.digest,
            "code_revision": provenance.code_revision(),
            "device": training.device,
            "precision_used": training.precision,
        },
        environment=provenance.environment(),
        dataset=tracking.Dataset(
            name="mura",
            source=str(training.shards.path),
            # DVC's name for the archive: with it, a reader of the run finds the bytes.
            digest=shards.archive_md5 or shards.data_digest,
            images={name: split.images for name, split in shards.splits.items()},
        ),
    )


def _key(training: Training, out: Path) -> str:
    """Tells this training from all others, also from the same one elsewhere, and is the same when it begins again."""
    place = os.environ.get(KUBEFLOW_RUN) or socket.gethostname()
    inputs = [training.shards.digest, training.params.model_dump(mode="json"), training.seed]
    return json_sha256([place, str(out.absolute()), inputs])[:32]


def _facts(
    training: Training, description: tracking.Description, state: State, measures: Measures
) -> TrainedModelFacts:
    shards, params, best = training.shards.facts, training.params, state.best
    return TrainedModelFacts(
        candidate=params.candidate,
        architecture=params.architecture,
        image_size=shards.image_size,
        parameters=training.model.count_params(),
        params=params.model_dump(mode="json"),
        seed=training.seed,
        precision=training.precision,
        device=training.device,
        phases=tuple(phase.name for phase in training.phases),
        epochs=state.epochs,
        best_epoch=best.epoch,
        tuning={"auroc": measures.auroc, "loss": measures.loss},
        offsets=offsets.of_training(shards.train_images, params.class_weighting),
        seconds=round(state.seconds, 1),
        data_digest=shards.data_digest,
        archive_md5=shards.archive_md5,
        shards_digest=training.shards.digest,
        code_revision=description.tags["code_revision"],
        environment=dict(description.environment),
        run=TrackedRun(run_id=state.run_id, model_uri=""),
    )


def _write_curves(path: Path, curves: list[Epoch]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[Any] = csv.DictWriter(file, list(Epoch.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.model_dump() for row in curves)
