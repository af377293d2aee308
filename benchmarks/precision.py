"""How much faster a network trains in bfloat16 than in float32 on this machine.

    python -m benchmarks.precision [--candidate vgg16] [--image-size 64] [--images 256] [--json]

The same network, batches and number of steps in both precisions, in turn. The first epoch of each does not count: Keras
traces the graph in it. `ratio` is images per second in bfloat16 over images per second in float32.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from components.network import architectures, backend
from components.params.document import read_params
from components.params.train import TrainParams, title
from components.train import phases

BATCH = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    candidates = read_params(Path("params.yaml")).train.candidates
    parser.add_argument("--candidate", default="vgg16", choices=candidates)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=256, help="in an epoch")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    backend.prepare()
    params = candidates[flags.candidate].model_copy(update={"batch_size": BATCH})
    rates = measure(params, flags.image_size, flags.images)
    result = {
        "candidate": flags.candidate,
        "device": backend.device(),
        "image_size": flags.image_size,
        "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "ratio": round(rates["mixed_bfloat16"] / rates["float32"], 2),
    }
    if flags.json:
        print(json.dumps(result))
        return
    name = title(flags.candidate, params.architecture)
    print(f"{name}, {flags.image_size} px, batches of {BATCH}, on {result['device']}")
    for precision, rate in rates.items():
        print(f"  {precision:15} {rate:8.1f} images/s")
    print(f"  ratio           {result['ratio']:8.2f}")


def measure(params: TrainParams, image_size: int, images: int, epochs: int = 3) -> dict[str, float]:
    """Images per second of training by precision, the median of some epochs."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, image_size, image_size, 1), dtype=np.uint8)
    labels = rng.integers(0, 2, (images, 1)).astype(np.float32)
    networks: dict[str, Any] = {}
    for precision in ("float32", "mixed_bfloat16"):
        network = architectures.build(params, image_size, seed=1, precision=precision)
        phases.compile_for(network, phases.phases(params)[-1], params, images)
        network.fit(pixels, labels, batch_size=BATCH, verbose=0)
        networks[precision] = network
    seconds: dict[str, list[float]] = {precision: [] for precision in networks}
    for _ in range(epochs):
        for precision, network in networks.items():
            started = time.perf_counter()
            network.fit(pixels, labels, batch_size=BATCH, verbose=0)
            seconds[precision].append(time.perf_counter() - started)
    return {precision: images / statistics.median(times) for precision, times in seconds.items()}


if __name__ == "__main__":
    main()
