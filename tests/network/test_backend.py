import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import locales
import numpy as np
import pytest
import tensorflow as tf

from components.base.errors import OutsideFailed
from components.network import architectures, backend
from components.params.document import read_params

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_too_little_memory_is_one_line_that_says_what_to_do() -> None:
    with (
        pytest.raises(OutsideFailed, match=r"memory of the device \(CPU\) is too small. Choose") as told,
        backend.memory_errors("Choose a smaller batch_size than 32."),
    ):
        tf.zeros([2**46])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("wanted", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_precision_that_is_named_is_used(wanted: str) -> None:
    assert backend.precision(wanted) == wanted


AVX512 = ("avx2", "avx512f", "avx512_bf16")


@pytest.mark.parametrize(
    ("device", "policy"),
    [
        ({"capability": (9, 0)}, "mixed_bfloat16"),
        ({"capability": (8, 0)}, "mixed_bfloat16"),
        ({"capability": (7, 5)}, "mixed_float16"),
        ({"capability": (7, 0)}, "mixed_float16"),
        ({"capability": (6, 1)}, "float32"),
        ({"instructions": (*AVX512, "amx_tile", "amx_bf16")}, "mixed_bfloat16"),
        ({"instructions": AVX512}, "float32"),
        ({}, "float32"),
    ],
)
def test_the_precision_is_the_fastest_of_the_hardware(device: dict[str, Any], policy: str) -> None:
    assert backend.fastest(**device) == policy


def test_float32_is_not_cut_to_tensor_float_32() -> None:
    tf.config.experimental.enable_tensor_float_32_execution(True)
    backend.prepare()
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def logits() -> str:
    """What an untrained network says about a batch, to the bit, and how VGG-16 is built."""
    # Keras numbers the names of layers within a process.
    tf.keras.backend.clear_session()
    candidates = read_params(ROOT / "params.yaml").train.candidates
    pixels = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 1), dtype=np.uint8)
    said = architectures.build(candidates["custom_cnn"], 32, seed=1)(pixels, training=False)
    vgg16 = architectures.build(candidates["vgg16"], 32, seed=1).to_json()
    return f"{np.asarray(said).tobytes().hex()} {hashlib.sha256(vgg16.encode()).hexdigest()}"


SETTINGS = {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "TF_DETERMINISTIC_OPS": "0",
    "TF_USE_LEGACY_KERAS": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "KERAS_BACKEND": "jax",
    "KERAS_NNX_ENABLED": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "PYTHONHASHSEED": "7",
    "TZ": "Pacific/Auckland",
    **locales.ASCII_ONLY,
}
KERAS_JSON = (
    '{"floatx": "float64", "epsilon": 0.01, "image_data_format": "channels_first", "backend": "torch", '
    '"nnx_enabled": true}'
)


@pytest.mark.longest
def test_settings_from_outside_change_no_number(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(KERAS_JSON)
    imported = os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))
    named = {"KERAS_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": imported}
    command = [sys.executable, "-c", "import components.network, test_backend; print(test_backend.logits())"]
    done = subprocess.run(command, env=named | SETTINGS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == logits()


def test_too_few_addresses_are_refused_before_tensorflow_aborts() -> None:
    command = 'ulimit -v 2000000; exec "$0" -c \'from components.base.errors import OutsideFailed\ntry:\n    import '
    command += "components.network\nexcept OutsideFailed as error:\n    print(error)'"
    named = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], env=named, capture_output=True, text=True, check=True
    )
    assert "may use 2.0 GB of memory (ulimit -v), and TensorFlow reserves 5 GB" in done.stdout
