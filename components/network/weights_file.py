"""The weights of a network as Keras writes them, `.weights.h5`."""

from typing import Any

import h5py
import keras
from keras.src.saving import saving_lib


class _InMemory(saving_lib.H5IOStore):  # type: ignore[misc] # Keras has no types
    """Keras' store, in a file that exists in memory only."""

    def _get_h5_file(self, path_or_io: Any, mode: str | None = None) -> h5py.File:
        return h5py.File(str(path_or_io), mode or self.mode, driver="core", backing_store=False)


def content(model: keras.Model) -> bytes:
    """The bytes of the file that `model.save_weights` writes, the optimiser's variables included.

    They are made in memory: HDF5 that meets a full disk crashes the process when it ends, whatever was caught before.
    """
    store = _InMemory("weights", mode="w")
    try:
        saving_lib._save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
        store.h5_file.flush()
        image: bytes = store.h5_file.id.get_file_image()
    finally:
        store.close()
    return image
