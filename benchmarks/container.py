"""What the image weighs and what a container costs a step: size by layer, cold start, the same work in and out of it.

    python -m benchmarks.container [--image IMAGE] [--engine podman] [--studies 60] [--repeats 5] [--json]

Needs the image: `make image`. A cold start is the time of `mura STEP --help` in a new container, the median of some;
beside it the same on this machine. The steps are run on a drawn archive, in turn on the machine and each in a container
of its own; `overhead` is what the container took longer, starting included. The machine's Python is another build than
the image's: where it is slower, the overhead is negative.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from components.base.step import STEPS as EVERY_STEP
from components.params.document import read_params
from pipelines.graph import image_names

ROOT = Path(__file__).parent.parent
STRICT = ("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=none")
STEPS: dict[str, list[str]] = {
    "phantom": ["--out", "phantom.zip"],
    "ingest": ["--archive", "phantom.zip", "--seed", "1", "--out", "manifest"],
    "validate": ["--archive", "phantom.zip", "--manifest", "manifest", "--out", "valid"],
    "shard": ["--archive", "phantom.zip", "--manifest", "valid", "--out", "shards"],
    "train": ["--shards", "shards", "--params", "params.yaml:train.custom_cnn", "--seed", "1", "--out", "model"],
    "evaluate": ["--shards", "shards", "--manifest", "valid", "--model", "model", "--seed", "1", "--out", "evaluation"],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--image", default=image_names.reference(read_params(ROOT / "params.yaml").kubeflow, "cpu"))
    parser.add_argument("--engine", default=shutil.which("podman") or shutil.which("docker"))
    parser.add_argument("--studies", type=int, default=60, help="of the drawn archive; one epoch of the custom CNN")
    parser.add_argument("--repeats", type=int, default=5, help="of each cold start")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    result = {
        "image": flags.image,
        "layers": layers(flags.engine, flags.image),
        "help_seconds": cold_starts(flags.engine, flags.image, flags.repeats),
        "step_seconds": steps(flags.engine, flags.image, flags.studies),
    }
    if flags.json:
        print(json.dumps(result))
        return
    print(f"{flags.image}: {sum(each['bytes'] for each in result['layers']) / 1e9:.2f} GB")
    for layer in result["layers"]:
        print(f"  {layer['bytes'] / 1e6:8.1f} MB  {layer['what']}")
    print(f"\nmura STEP --help, median of {flags.repeats}   container    machine")
    for step, took in result["help_seconds"].items():
        print(f"  {step:25} {took['container']:8.2f} s {took['machine']:8.2f} s")
    print(f"\nA step, {flags.studies} studies           container    machine   overhead")
    for step, took in result["step_seconds"].items():
        print(f"  {step:25} {took['container']:8.2f} s {took['machine']:8.2f} s {took['overhead']:8.2f} s")


def layers(engine: str, image: str) -> list[dict[str, Any]]:
    """Uncompressed bytes of each layer that has any, the base first."""
    told = subprocess.run([engine, "history", "--no-trunc", "--format=json", image], check=True, capture_output=True)
    text = told.stdout.decode()
    entries = json.loads(text) if text.lstrip().startswith("[") else [json.loads(each) for each in text.splitlines()]
    sizes = [size for each in reversed(entries) if (size := _bytes(each.get("size", each.get("Size")))) > 100_000]
    # The recipe adds three layers to those of its base.
    ours = ["TensorFlow, and CUDA in the GPU image", "Python packages", "mura"]
    names = ["base"] * (len(sizes) - len(ours)) + ours
    return [{"bytes": size, "what": name} for size, name in zip(sizes, names, strict=True)]


def cold_starts(engine: str, image: str, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds from nothing to the end of `mura STEP --help`; alternately in a container and on the machine."""
    found: dict[str, dict[str, float]] = {}
    for step in EVERY_STEP:
        doors = {
            "container": [engine, "run", "--rm", *STRICT, image, step, "--help"],
            "machine": [_mura(), step, "--help"],
        }
        times: dict[str, list[float]] = {door: [] for door in doors}
        for _ in range(repeats):
            for door, words in doors.items():
                times[door].append(_seconds(words, ROOT))
        found[step] = {door: round(statistics.median(each), 3) for door, each in times.items()}
    return found


def steps(engine: str, image: str, studies: int) -> dict[str, dict[str, float]]:
    """Seconds of each step on the same small archive, in a container and on the machine."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="mura-container-") as name:
        folders = {door: Path(name) / door for door in ("container", "machine")}
        for folder in folders.values():
            folder.mkdir()
            folder.chmod(0o777)
            _write_params(folder, studies)
        for step, flags in STEPS.items():
            words = [step, *(["--studies", str(studies)] if step == "phantom" else []), *flags]
            inside = [engine, "run", "--rm", *STRICT, f"--volume={folders['container']}:/work", image, *words]
            took = {
                "container": _seconds(inside, folders["container"]),
                "machine": _seconds([_mura(), *words], folders["machine"]),
            }
            took["overhead"] = took["container"] - took["machine"]
            found[step] = {door: round(seconds, 2) for door, seconds in took.items()}
    return found


def _write_params(folder: Path, studies: int) -> None:
    choices = yaml.safe_load((ROOT / "params.yaml").read_text())
    choices["phantom"]["studies"] = studies
    choices["train"]["default"] |= {"epochs": 1, "patience": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(choices))


def _mura() -> str:
    return str(Path(sys.executable).with_name("mura"))


def _seconds(words: list[str], folder: Path) -> float:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    started = time.monotonic()
    done = subprocess.run(words, cwd=folder, env=surroundings, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return time.monotonic() - started


def _bytes(size: int | str) -> int:
    """Docker writes sizes for people, `1.04GB`; podman writes numbers."""
    if isinstance(size, int):
        return size
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1)):
        if size.endswith(unit):
            return int(float(size.removesuffix(unit)) * factor)
    return int(size)


if __name__ == "__main__":
    main()
