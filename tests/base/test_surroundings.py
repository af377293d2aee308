"""Settings from outside that would change a result are overruled; what says where and how many is honoured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.base import surroundings
from components.base.errors import UsageError

ROOT = Path(__file__).parents[2]
OVERRULED = {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_DETERMINISTIC_OPS": "0",
    "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_ENABLE_AUTO_MIXED_PRECISION": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
    "TF_CUDNN_WORKSPACE_LIMIT_IN_MB": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "NVIDIA_TF32_OVERRIDE": "0",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "DNNL_DEFAULT_FPMATH_MODE": "BF16",
    "KERAS_BACKEND": "jax",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KERAS_NNX_ENABLED": "1",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "OPENBLAS_CORETYPE": "Prescott",
    "MPLBACKEND": "nonsense",
    "MATPLOTLIBRC": "/nowhere",
    "PYTHONWARNINGS": "error",
}
HONOURED = {
    "TF_CONFIG": "{}",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_GPU_HOST_MEM_LIMIT_IN_MB": "1000",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "0",
    "KERAS_HOME": "/tmp/keras",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    # Terraform's; a doctor that shows it would show a secret.
    "TF_VAR_password": "hidden",
    "TF_TOKEN_app_terraform_io": "hidden",
}
LOOK = """
import json, os, sys, warnings
from components.base import surroundings
surroundings.settle()
try:
    warnings.warn("of a library, about its future", DeprecationWarning)
    calm = True
except Warning:
    calm = False
print(json.dumps([dict(os.environ), list(surroundings.overruled()), calm]))
"""


def test_what_changes_numbers_is_removed_and_told_and_the_rest_stays(tmp_path: Path) -> None:
    named = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", LOOK]
    done = subprocess.run(
        command, env=named | OVERRULED | HONOURED, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    left, told, calm = json.loads(done.stdout)
    assert {name for name in OVERRULED if name in left} == {
        "KERAS_BACKEND", "KERAS_NNX_ENABLED", "TF_ENABLE_ONEDNN_OPTS"
    }  # fmt: skip
    assert left["KERAS_BACKEND"] == "tensorflow"
    assert {name: left.get(name) for name in HONOURED} == HONOURED
    assert {line.partition("=")[0] for line in told} == set(OVERRULED)
    assert "KERAS_BACKEND=jax of the environment is not used; tensorflow is" in told
    assert not any("hidden" in line for line in told)
    assert calm


def test_other_settings_of_keras_and_matplotlib_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    said = {"floatx": "float64", "epsilon": 1e-7, "image_data_format": "channels_first", "backend": "tensorflow"}
    (tmp_path / "keras.json").write_text(json.dumps(said))
    surroundings.check_keras_file()
    told = list(surroundings.overruled())
    assert f"floatx: float64 of {tmp_path}/keras.json is not used; float32 is" in told
    assert f"image_data_format: channels_first of {tmp_path}/keras.json is not used; channels_last is" in told
    assert not any("epsilon" in line or "matplotlibrc" in line for line in told)
    (tmp_path / "matplotlibrc").touch()
    assert any(f"{tmp_path}/matplotlibrc is not used" in line for line in surroundings.overruled())


@pytest.mark.parametrize("text", ['{"floatx": "bfloat16"}', '{"image_data_format": "other"}', '{"epsilon": 1}', "[]"])
def test_settings_that_keras_cannot_be_imported_with_are_named(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text(text)
    with pytest.raises(UsageError, match=rf"{tmp_path}/keras.json: .* Delete the file"):
        surroundings.check_keras_file()


def test_settings_that_are_no_json_are_none_as_for_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text("{")
    surroundings.check_keras_file()
    assert not any("keras.json" in line for line in surroundings.overruled())


def test_a_user_without_a_home_has_places_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "KERAS_HOME", "MPLCONFIGDIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)  # no such user: so it is in containers
    assert surroundings.keras_file() == Path("/tmp/.keras/keras.json")
    assert list(surroundings.overruled()) is not None
