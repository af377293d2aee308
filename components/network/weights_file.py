"""The weights of a network as Keras writes them, `.weights.h5`."""

import math
from pathlib import Path
from typing import Any

import h5py
import keras
from keras.src.saving import saving_lib

# Bytes beside the weights: counters, seeds.
_SLACK = 1 << 20


class _InMemory(saving_lib.H5IOStore):  # type: ignore[misc] # Keras has no types
    """Keras' store, in a file that exists in memory only."""

    def _get_h5_file(self, path_or_io: Any, mode: str | None = None) -> h5py.File:
        return h5py.File(str(path_or_io), mode or self.mode, driver="core", backing_store=False)


def content(model: keras.Model) -> bytes:
    """The bytes of the file that `model.save_weights` writes, without the optimiser's variables.

    Those are two thirds of it, and nobody who loads the model needs them. The bytes are made in memory: HDF5 that
    meets a full disk crashes the process when it ends, whatever was caught before.
    """
    store = _InMemory("weights", mode="w")
    try:
        seen = {id(model.optimizer)} if model.compiled else set()
        saving_lib._save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=seen)
        store.h5_file.flush()
        image: bytes = store.h5_file.id.get_file_image()
    finally:
        store.close()
    return image


def check(path: Path, model: keras.Model) -> None:
    """Check that a file holds no more than the weights of a network, before Keras reads it.

    HDF5 may claim an array of any size in a few bytes, or point to other files.

    Raises:
        ValueError: it holds more, or points elsewhere.
        OSError, RuntimeError, KeyError: it is damaged.
    """
    # Keras writes the variables of the optimiser, too: two moments of each weight, of four bytes like itself.
    left = 3 * 4 * sum(math.prod(variable.shape) for variable in model.variables) + _SLACK
    arrays: list[int] = []

    def visit(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            if found.is_virtual or found.external:
                raise ValueError(f"{name} is in another file")
            arrays.append(found.nbytes)
            if sum(arrays) > left:
                raise ValueError(f"{name} and the arrays before it have more than the {left:,} bytes of the network")

    def follow(name: str, link: Any) -> None:
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name} is a link")

    with h5py.File(path, "r") as file:
        file.visititems_links(follow)
        file.visititems(visit)
