"""The processes that train one network: as a rule one, or several that TF_CONFIG names.

TF_CONFIG is TensorFlow's: the addresses of all workers, and which of them this process is. Each works on its share of
every batch, and their gradients are added up before each step, so that all have the same weights. Worker 0 is the
chief: it alone measures, saves and tells.
"""

import hashlib
import io
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from components.base.errors import ServiceUnreachable, UsageError

if TYPE_CHECKING:
    import keras
    import numpy as np

PLACE = "TF_CONFIG"
# Between the seeds of two workers; the random layers of a network have seeds that follow each other.
STRIDE = 1000

Epoch = Callable[[Any, Callable[[], None]], float]
"""Trains one epoch of batches, calls back after each, returns the mean loss; of uneven shares, nearly the mean."""
Predict = Callable[[Any], "np.ndarray[Any, Any]"]
"""From batches of pixels to logits, float32 [N]."""


class Place(NamedTuple):
    """Which worker this process is, of how many."""

    rank: int
    """0 is the chief."""
    size: int


class _Cluster(BaseModel, extra="forbid"):
    worker: list[str] = Field(min_length=1)


class _Task(BaseModel):
    type: Literal["worker"]
    index: int = Field(ge=0)


class _Config(BaseModel):
    cluster: _Cluster
    task: _Task


def place() -> Place:
    """What TF_CONFIG says; the only worker where it says nothing.

    Raises:
        UsageError: it has something else than workers, or this process is none of them.
    """
    text = os.environ.get(PLACE)
    if not text:
        return Place(0, 1)
    try:
        config = _Config.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f'{PLACE}: expected {{"cluster": {{"worker": ["host:port", ...]}}, "task": {{"type": "worker", '
            f'"index": 0}}}}, found otherwise ({where}: {first["msg"]}). Unset it to train in one process.'
        ) from error
    size = len(config.cluster.worker)
    if config.task.index >= size:
        raise UsageError(f"{PLACE}: this is worker {config.task.index}, and the last of {size} is {size - 1}.")
    return Place(config.task.index, size)


def join() -> "Worker":
    """This process as a worker; after `backend.prepare`, and before TensorFlow computes anything.

    Returns as soon as all are there.

    Raises:
        UsageError: TF_CONFIG is wrong.
        ServiceUnreachable: the address of this worker cannot be had.
    """
    here = place()
    return Worker() if here.size == 1 else TeamWorker(here)


class Worker:
    """The only process of a training."""

    place = Place(0, 1)

    def scope(self) -> AbstractContextManager[Any]:
        """Where networks and optimisers are made."""
        return nullcontext()

    def from_chief(self, said: bytes) -> bytes:
        """What the chief says; `said` itself on the chief."""
        return said

    def agree(self, digest: Callable[[], str], otherwise: str) -> None:
        """Compare a sha256 with that of all others.

        Raises:
            UsageError: they differ; `otherwise` is what it says.
        """

    def align(self, variables: Sequence[Any]) -> None:
        """Give all workers the chief's numbers, and each its own random ones to come."""

    def trainer(self, model: "keras.Model") -> Epoch:
        """What trains a compiled model."""
        import keras

        def epoch(batches: Any, done: Callable[[], None]) -> float:
            counter = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _batch, **_: done())
            history = model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[counter]).history
            return float(history["loss"][0])

        return epoch

    def predictor(self, model: "keras.Model") -> Predict:
        """What uses a model."""

        def predict(batches: Any) -> "np.ndarray[Any, Any]":
            logits: np.ndarray[Any, Any] = model.predict(batches, verbose=0)[:, 0]
            return logits

        return predict


class TeamWorker(Worker):
    """One of several.

    Keras 3.15's `fit` fails under this strategy (it takes a batch of one replica for a tensor), and its `predict`
    gathers from all workers what the chief alone asks for. So its `train_step` and the network itself are called here.
    """

    def __init__(self, place: Place) -> None:
        """Meet the others."""
        import tensorflow as tf

        self.place = place
        # One GPU each: another process, or another pod, is what takes a second one.
        tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")
        with _together():
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy()
        # TensorFlow takes the signal for a warning of what is to come; whoever sends it means that we are to end.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)  # type: ignore[untyped-decorator]
        def gather(values: Any) -> Any:
            return self._strategy.gather(values, axis=0)

        self._gather_tensor = gather

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Where networks and optimisers are made."""
        with _together(), self._strategy.scope():
            yield

    def from_chief(self, said: bytes) -> bytes:
        """What the chief says; `said` itself on the chief."""
        import numpy as np

        # As numbers that collectives know. The others add nothing to what is gathered.
        words = np.frombuffer(said + bytes(-len(said) % 4), np.int32)
        length = np.array([len(said)], np.int32)
        if self.place.rank:
            words, length = words[:0], length[:0]
        return self._gather(words).tobytes()[: int(self._gather(length)[0])]

    def agree(self, digest: Callable[[], str], otherwise: str) -> None:
        """Compare a sha256 with that of all others.

        Raises:
            UsageError: they differ; `otherwise` is what it says.
        """
        import numpy as np

        digests = self._gather(np.frombuffer(bytes.fromhex(digest()), np.int32)).reshape(self.place.size, -1)
        if (digests != digests[0]).any():
            raise UsageError(otherwise)

    def align(self, variables: Sequence[Any]) -> None:
        """Give all workers the chief's numbers, and each its own random ones to come."""
        import numpy as np

        chiefs = io.BytesIO()
        np.savez(chiefs, allow_pickle=False, **{str(i): np.asarray(variable) for i, variable in enumerate(variables)})
        with np.load(io.BytesIO(self.from_chief(chiefs.getvalue())), allow_pickle=False) as numbers:
            for i, variable in enumerate(variables):
                # The chief's own are those of a checkpoint, which must not move.
                shift = [STRIDE * self.place.rank, 0] if is_random_state(variable) else 0
                variable.assign(numbers[str(i)] + np.array(shift, numbers[str(i)].dtype))

    def trainer(self, model: "keras.Model") -> Epoch:
        """What trains a compiled model."""
        import tensorflow as tf

        @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
        def step(batch: Any) -> None:
            self._strategy.run(model.train_step, args=(batch,))

        # As functions: what is reduced outside of one waits in a pool of threads, which an error leaves behind and
        # which then, at the end of the process, may tell of itself.
        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def forget() -> None:
            model.reset_metrics()

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def loss() -> Any:
            return model.get_metrics_result()["loss"]

        def epoch(batches: Any, done: Callable[[], None]) -> float:
            with _together():
                forget()
                for batch in batches:
                    step(batch)
                    done()
                return float(loss())

        return epoch

    def predictor(self, model: "keras.Model") -> Predict:
        """What uses a model; needs none of the others."""
        import numpy as np
        import tensorflow as tf

        @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
        def forward(pixels: Any) -> Any:
            return model(pixels, training=False)

        return lambda batches: np.concatenate([forward(pixels).numpy() for pixels in batches])[:, 0]

    def _gather(self, values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """The values of all workers, in their order; int32 [N], of another N for each."""
        with _together():
            gathered: np.ndarray[Any, Any] = self._gather_tensor(values).numpy()
        return gathered


def digest(variables: Sequence[Any]) -> str:
    """sha256 of what all workers must have in common."""
    import numpy as np

    made = hashlib.sha256()
    for variable in variables:
        if not is_random_state(variable):
            made.update(np.asarray(variable).tobytes())
    return made.hexdigest()


def is_random_state(variable: Any) -> bool:
    """Whether it is where a random layer of Keras keeps its seed and how often it was used, uint32 [2]."""
    return bool(variable.name == "seed_generator_state")


@contextmanager
def _together() -> Iterator[None]:
    """Tell in our words that another worker is gone; TensorFlow notices within some ten seconds.

    Raises:
        ServiceUnreachable: it is.
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
        raise ServiceUnreachable(
            "train: another worker of this training has ended or cannot be reached; its own log says why. "
            "Start all of them again: they go on from the chief's last epoch."
        ) from error
