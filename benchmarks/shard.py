"""The speed of `mura shard`, compared with bare decoding and fitting of the same images.

    python -m benchmarks.shard [--images 1000] [--image-size 320] [--archive phantom.zip] [--scaling] [--json]

The ceiling is the number of cores times the rate of one core for the bare work, file to square, with the fastest of
OpenCV, Pillow, imagecodecs (if installed) and TensorFlow, measured in the same run, before and after. `ratio` is the
rate of the whole command, with start-up, divided by the ceiling. `steady_ratio` is without start-up, which is measured
with a few images. The rate of decoding and fitting with the project's own decoder is listed too. `overhead` is the
share of the cores' time for everything else: zip, sha256, protocol buffers, CRC-32C, writing. `--scaling` repeats the
measurement with a quarter and a fortieth of the images. Ingest and validation run first and are not counted.
"""

import time
from pathlib import Path
from typing import Any

from benchmarks import harness, ingest
from components.artifacts.manifest import TABLE, ValidManifest
from components.base import workers

OURS = "components.xray.png"


def main() -> None:
    """Measure and print."""
    parser = harness.parser(__doc__ or "", images=1000)
    parser.add_argument("--image-size", type=int, default=320, help="[default: %(default)s]")
    parser.add_argument("--images-per-shard", type=int, default=512, help="[default: %(default)s]")
    parser.add_argument("--scaling", action="store_true", help="also a quarter and a fortieth of the images")
    flags = parser.parse_args()
    counts = [flags.images, *([flags.images // 4, flags.images // 40] if flags.scaling else []), ingest.FEW]
    params = f'{{"image_size": {flags.image_size}, "images_per_shard": {flags.images_per_shard}}}'
    with harness.archive(flags) as (archive,), harness.folder() as folder:
        pngs = ingest.sample(archive)
        valid = prove(archive, folder)
        before = rates(pngs, flags.image_size)
        runs = [_shard(archive, part(valid, count, folder / str(count)), params) for count in counts]
        after = rates(pngs, flags.image_size)
    best = {name: max(before[name], after[name]) for name in before}
    ours = best.pop(OURS)
    fastest = max(best, key=lambda name: best[name])
    cores = workers.cores()
    ceiling, steady = cores * best[fastest], ingest.steady(runs[0], runs[-1])
    result: dict[str, Any] = {
        **runs[0],
        "image_size": flags.image_size,
        "cores": cores,
        "decode_and_fit": {name: round(rate, 1) for name, rate in best.items()},
        "own_decode_and_fit": round(ours, 1),
        "fastest": fastest,
        "ceiling": round(ceiling, 1),
        "ratio": round(runs[0]["images_per_second"] / ceiling, 3),
        "steady_ratio": round(steady / ceiling, 3),
        "overhead": round(1 - steady / (cores * ours), 3),
        "runs": runs,
    }
    head = ("shard", "images", "seconds", "images/s", "of the ceiling", "peak memory")
    rows = [
        (
            "mura shard",
            each["images"],
            f"{each['seconds']:.1f}",
            f"{each['images_per_second']:.0f}",
            f"{each['images_per_second'] / ceiling:.2f}",
            f"{each['peak_bytes'] / 1e6:.0f} MB",
        )
        for each in runs
    ]
    rows.append(("without start-up", "", "", f"{steady:.0f}", f"{result['steady_ratio']:.2f}", ""))
    rows += [(f"{name}, one core", "", "", f"{rate:.0f}", "", "") for name, rate in [*best.items(), ("ours", ours)]]
    title = f"{flags.image_size} px on {cores} cores; ceiling: {fastest}, {ceiling:.0f} images/s"
    harness.tell(result, title, [head, *rows], flags.json)


def prove(archive: Path, folder: Path) -> ValidManifest:
    """The proven manifest of an archive, in a folder of its own."""
    mura = [*harness.mura(), "--quiet"]
    manifest, valid = folder / "manifest", folder / "valid"
    harness.run([*mura, "ingest", "--archive", archive, "--seed", "1", "--out", manifest])
    harness.run([*mura, "validate", "--archive", archive, "--manifest", manifest, "--out", valid])
    return ValidManifest.read(valid)


def part(valid: ValidManifest, images: int, folder: Path) -> ValidManifest:
    """So many rows of a valid manifest, spread over the whole table."""
    table = valid.table
    folder.mkdir()
    table.iloc[:: max(1, len(table) // images)].head(images).to_parquet(folder / TABLE, index=False)
    return ValidManifest.seal(folder, valid.facts)


def rates(pngs: list[bytes], image_size: int, rounds: int = 3) -> dict[str, float]:
    """Images per second of one core, file to square, by decoder: the best of some alternating rounds."""
    import numpy as np

    from components.xray import square

    def fit(decoded: Any) -> None:
        pixels = decoded.grey if hasattr(decoded, "grey") else np.asarray(decoded)
        # One channel of a colour picture: that is the cheapest, and MURA's channels are equal.
        grey = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])
        square.fit(grey, image_size)

    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, decode in ingest.decoders().items():
            started = time.perf_counter()
            for png in pngs:
                fit(decode(png))
            seconds.setdefault(name, []).append(time.perf_counter() - started)
    return {name: len(pngs) / min(times) for name, times in seconds.items()}


def _shard(archive: Path, valid: ValidManifest, params: str) -> dict[str, Any]:
    words = ["--archive", archive, "--manifest", valid.path, "--params", params, "--out", f"{valid.path}-shards"]
    used = harness.run([*harness.mura(), "--quiet", "shard", *words])
    images = len(valid.table)
    return {
        "images": images,
        "seconds": round(used.seconds, 2),
        "images_per_second": round(images / used.seconds, 1),
        "peak_bytes": used.peak_bytes,
    }


if __name__ == "__main__":
    main()
