"""The processes that train one network: usually one, or several that TF_CONFIG names.

Each worker computes its share of every batch. Their gradients are summed before each step, so all have the same
weights. Worker 0 is the chief.
"""

import hashlib
import io
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.base.errors import ServiceUnreachable, UsageError
from components.train import meeting, tf_config
from components.train.tf_config import Place

# Distance between the seeds of two workers. The random layers of one network have consecutive seeds.
STRIDE = 1000

Epoch = Callable[[Any, Callable[[float], None]], float]
"""Trains an epoch of batches, calls back after each with the mean loss so far, and returns it (with uneven shares
almost the mean)."""
Predict = Callable[[Any], NDArray[np.float32]]
"""From batches of pixels to logits, float32 [N]."""


def join() -> "Worker":
    """Join the training, after `backend.prepare` and before TensorFlow computes anything.

    Returns when all workers are there.

    Raises:
        UsageError: TF_CONFIG is wrong.
        ServiceUnreachable: the address of this worker is not available.
    """
    here = tf_config.place()
    return Worker() if here.size == 1 else TeamWorker(here)


class Worker:
    """The only process of a training."""

    place = Place(0, 1)

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which networks and optimisers are built."""
        return nullcontext()

    def from_chief(self, said: bytes) -> bytes:
        """Return what the chief says; `said` counts on the chief only."""
        return said

    def agree(self, digest: Callable[[], str], otherwise: str) -> None:
        """Compare a sha256 with those of all other workers.

        Args:
            digest: computes the sha256, hex.
            otherwise: text of the error.

        Raises:
            UsageError: they differ.
        """

    def align(self, variables: Sequence[Any]) -> None:
        """Set the variables of all workers to the chief's; each worker gets its own random states."""

    def trainer(self, model: keras.Model) -> Epoch:
        """A function that trains a compiled model."""

        def epoch(batches: Any, done: Callable[[float], None]) -> float:
            after = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _batch, logs: done(float(logs["loss"])))
            history = model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[after]).history
            return float(history["loss"][0])

        return epoch

    def predictor(self, model: keras.Model) -> Predict:
        """A function that predicts with a model."""

        def predict(batches: Any) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = model.predict(batches, verbose=0)[:, 0]
            return logits

        return predict


class TeamWorker(Worker):
    """One of several processes.

    Keras 3.15's `fit` fails under this strategy (it treats a batch of one replica as a tensor), and its `predict` needs
    all workers, where only the chief predicts. So Keras' `train_step` and the network itself are called here.
    """

    def __init__(self, place: Place) -> None:
        """Wait for the other workers."""
        self.place = place
        ends = signal.getsignal(signal.SIGTERM)
        # One GPU for each process. A second GPU needs another process, or another pod.
        tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")
        meeting.meet(place.rank, tf_config.addresses(), meeting.seconds())
        with _together():
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy()
        # TensorFlow would treat SIGTERM as a notice of preemption. It must end this process.
        signal.signal(signal.SIGTERM, ends)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)  # type: ignore[untyped-decorator]
        def gather(values: Any) -> Any:
            return self._strategy.gather(values, axis=0)

        self._gather_tensor = gather

    @contextmanager
    def scope(self) -> Iterator[None]:
        """The context in which networks and optimisers are built."""
        with _together(), self._strategy.scope():
            yield

    def from_chief(self, said: bytes) -> bytes:
        """Return what the chief says; `said` counts on the chief only."""
        # As int32, which collectives support. The other workers add empty arrays.
        words = np.frombuffer(said + bytes(-len(said) % 4), np.int32)
        length = np.array([len(said)], np.int32)
        if self.place.rank:
            words, length = words[:0], length[:0]
        return self._gather(words).tobytes()[: int(self._gather(length)[0])]

    def agree(self, digest: Callable[[], str], otherwise: str) -> None:
        """Compare a sha256 with those of all other workers.

        Args:
            digest: computes the sha256, hex.
            otherwise: text of the error.

        Raises:
            UsageError: they differ.
        """
        digests = self._gather(np.frombuffer(bytes.fromhex(digest()), np.int32)).reshape(self.place.size, -1)
        if (digests != digests[0]).any():
            raise UsageError(otherwise)

    def align(self, variables: Sequence[Any]) -> None:
        """Set the variables of all workers to the chief's; each worker gets its own random states."""
        chiefs = io.BytesIO()
        np.savez(chiefs, allow_pickle=False, **{str(i): np.asarray(variable) for i, variable in enumerate(variables)})
        with np.load(io.BytesIO(self.from_chief(chiefs.getvalue())), allow_pickle=False) as numbers:
            for i, variable in enumerate(variables):
                # The chief's are those of the checkpoint, so they stay.
                shift = [STRIDE * self.place.rank, 0] if is_random_state(variable) else 0
                variable.assign(numbers[str(i)] + np.array(shift, numbers[str(i)].dtype))

    def trainer(self, model: keras.Model) -> Epoch:
        """A function that trains a compiled model."""

        @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
        def step(batch: Any) -> None:
            self._strategy.run(model.train_step, args=(batch,))

        # As TensorFlow functions: outside of one, a reduction runs in a pool of threads. After an error these threads
        # stay, and may write messages when the process ends.
        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def forget() -> None:
            model.reset_metrics()

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def loss() -> Any:
            return model.get_metrics_result()["loss"]

        def epoch(batches: Any, done: Callable[[float], None]) -> float:
            with _together():
                forget()
                for batch in batches:
                    step(batch)
                    done(float(loss()))
                return float(loss())

        return epoch

    def predictor(self, model: keras.Model) -> Predict:
        """A function that predicts with a model, without the other workers."""

        @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
        def forward(pixels: Any) -> Any:
            return model(pixels, training=False)

        return lambda batches: np.concatenate([forward(pixels).numpy() for pixels in batches])[:, 0]

    def _gather(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """The values of all workers, in their order; int32 [N], N may differ."""
        with _together():
            gathered: NDArray[np.int32] = self._gather_tensor(values).numpy()
        return gathered


def digest(variables: Sequence[Any]) -> str:
    """sha256 over the variables that must be equal on all workers."""
    made = hashlib.sha256()
    for variable in variables:
        if not is_random_state(variable):
            made.update(np.asarray(variable).tobytes())
    return made.hexdigest()


def is_random_state(variable: Any) -> bool:
    """Whether the variable is the state of a random layer of Keras: its seed and a counter, uint32 [2]."""
    return bool(variable.name == "seed_generator_state")


@contextmanager
def _together() -> Iterator[None]:
    """Report a lost worker in one line. TensorFlow notices it within about ten seconds.

    Raises:
        ServiceUnreachable: another worker is lost.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
        raise ServiceUnreachable(
            "train: another worker of this training has ended or cannot be reached; its own log says why. "
            "Start all of them again: they resume after the chief's last epoch."
        ) from error
