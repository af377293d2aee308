"""Pictures that are no bone radiographs, drawn or found in installed packages: what `benchmarks.unlike` asks about.

Each kind is a function from a random generator to one grey picture, uint8 [H, W]. The same seed draws the same
pictures. `found` gives real ones of packages, if these are installed: photographs of scikit-learn, Matplotlib and
scikit-image, slices of pydicom's test files and of nilearn's template.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

SIDE = 512
WORDS = ("the", "of", "and", "in", "is", "it", "film", "left", "right", "wrist", "pain", "since", "fall", "days", "no")


def drawn(kind: str, count: int, seed: int) -> list[Grey]:
    """Some pictures of a kind of `KINDS`."""
    number = list(KINDS).index(kind)
    return [KINDS[kind](np.random.default_rng((seed, number, each))) for each in range(count)]


def chest(rng: Rng) -> Grey:
    """A chest film from the front: a body, two lungs, ribs, collar bones, the heart, the diaphragm."""
    height, width = SIDE, int(SIDE * rng.uniform(0.8, 1.2))
    y, x = _grid(height, width)
    x = (x - rng.uniform(-0.04, 0.04)) * rng.uniform(0.92, 1.08)
    film = np.full((height, width), rng.uniform(0.0, 0.15))
    film += 0.5 * _soft(1.02 - np.abs(x / rng.uniform(0.85, 1.05)) ** 4 - np.maximum(0, -y - 0.75) * 3, 0.06)
    for side in (-1, 1):
        middle, tall = side * rng.uniform(0.36, 0.44), rng.uniform(0.62, 0.75)
        lung = ((x - middle) / rng.uniform(0.26, 0.32)) ** 2 + np.abs((y + 0.08) / tall) ** 2.6
        dome = 0.55 + 0.08 * side + 0.5 * (x - middle) ** 2
        film -= rng.uniform(0.3, 0.42) * _soft(1 - lung, 0.08) * _soft(dome - y, 0.03)
        for rib in range(9):
            centre = -0.75 + 0.16 * rib + 0.25 * (np.abs(x) - 0.15) - 0.45 * (np.abs(x) - 0.15) ** 2 * side * side
            strong = rng.uniform(0.05, 0.1) * _soft(0.9 - np.abs(x), 0.05) * (x * side > 0.08)
            film += strong * np.exp(-(((y - centre) / 0.03) ** 2))
        collar = -0.78 - 0.12 * np.abs(x) * side * side + 0.1 * np.sin(4 * np.abs(x))
        film += 0.16 * np.exp(-(((y - collar) / 0.025) ** 2)) * (x * side > 0.08) * (np.abs(x) < 0.75)
    film += rng.uniform(0.2, 0.3) * np.exp(-((x / 0.12) ** 2))
    heart = ((x - rng.uniform(0.06, 0.14)) / rng.uniform(0.24, 0.34)) ** 2 + ((y - 0.25) / 0.3) ** 2
    film += 0.25 * _soft(1 - heart, 0.12)
    return _finished(film, rng, noise=0.02)


def ct(rng: Rng) -> Grey:
    """A CT slice of a trunk or a head: a bright ring or wall, organs, the spine, the table, air around."""
    y, x = _grid(SIDE, SIDE)
    turn = rng.uniform(-0.1, 0.1)
    x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    image = np.zeros((SIDE, SIDE))
    if rng.random() < 0.35:
        head = (x / rng.uniform(0.55, 0.7)) ** 2 + (y / rng.uniform(0.7, 0.85)) ** 2
        image += 0.95 * _soft(1 - head, 0.02) - 0.55 * _soft(rng.uniform(0.78, 0.86) - head, 0.02)
        image += 0.08 * _texture(rng, SIDE, 1.6) * (head < 0.78)
        for side in (-1, 1):
            gap = ((x - side * rng.uniform(0.08, 0.14)) / 0.06) ** 2 + ((y + 0.1) / rng.uniform(0.2, 0.3)) ** 2
            image -= 0.2 * _soft(1 - gap, 0.1)
        return _finished(image, rng, noise=0.03)
    wide, tall = rng.uniform(0.75, 0.95), rng.uniform(0.5, 0.68)
    body = (x / wide) ** 2 + (y / tall) ** 2
    image += 0.3 * _soft(1 - body, 0.02) + 0.15 * _soft(rng.uniform(0.75, 0.9) - body, 0.03)
    lungs = rng.random() < 0.5
    for _ in range(2 if lungs else int(rng.integers(5, 10))):
        side = rng.choice((-1, 1))
        middle = rng.uniform(-0.5, 0.5, 2) * (wide, tall)
        radius = rng.uniform(0.08, 0.3, 2) * (wide, 1.3 * tall)
        organ = ((x - side * middle[0]) / radius[0]) ** 2 + ((y - middle[1]) / radius[1]) ** 2
        image += rng.uniform(-0.12, 0.2) * _soft(1 - organ, 0.05) * (body < 0.75)
    if lungs:
        for side in (-1, 1):
            lung = ((x - side * 0.42 * wide) / (0.3 * wide)) ** 2 + ((y + 0.05) / (0.62 * tall)) ** 2
            image -= 0.42 * _soft(1 - lung, 0.03)
            image += 0.12 * (_texture(rng, SIDE, 1.0) > 1.6) * (lung < 1)
    spine = (x / 0.1) ** 2 + ((y - 0.6 * tall) / 0.1) ** 2
    image += 0.5 * _soft(1 - spine, 0.1)
    for angle in rng.uniform(0, 2 * np.pi, 10):
        rib = ((x - 0.86 * wide * np.cos(angle)) / 0.07) ** 2 + ((y - 0.86 * tall * np.sin(angle)) / 0.035) ** 2
        image += 0.45 * _soft(1 - rib, 0.2)
    image += 0.35 * np.exp(-(((y - tall - 0.12 - 0.15 * x**2) / 0.012) ** 2)) * (np.abs(x) < 0.9)
    return _finished(image, rng, noise=0.04)


def mr(rng: Rng) -> Grey:
    """An MR slice of a head: skin, skull, folded brain, ventricles."""
    y, x = _grid(SIDE, int(SIDE * rng.uniform(0.8, 1.0)))
    head = (x / rng.uniform(0.7, 0.85)) ** 2 + (y / rng.uniform(0.75, 0.9)) ** 2
    folds = _texture(rng, SIDE, 1.3)[:, : x.shape[1]]
    image = 0.8 * _soft(1 - head, 0.02) - 0.7 * _soft(0.9 - head, 0.02)
    image += (0.45 + 0.12 * folds) * _soft(0.78 - head, 0.03)
    for side in (-1, 1):
        gap = ((x - side * 0.1) / 0.07) ** 2 + ((y + 0.05) / rng.uniform(0.2, 0.35)) ** 2
        image -= 0.4 * _soft(1 - gap, 0.1)
    image -= 0.2 * np.exp(-((x / 0.01) ** 2)) * (head < 0.75)
    return _finished(image, rng, noise=0.03)


def photograph(rng: Rng) -> Grey:
    """A photograph: sky, hills or a wall, with trees, houses or things that cast shadows."""
    height, width = SIDE, int(SIDE * rng.choice((0.67, 0.75, 1.0, 1.33)))
    y, x = _grid(height, width)
    scene = (
        rng.uniform(0.5, 0.95)
        - rng.uniform(-0.1, 0.3) * y
        + 0.06 * _texture(rng, max(height, width), 1.8)[:height, :width]
    )
    level = rng.uniform(-0.3, 0.4)
    for depth in range(int(rng.integers(1, 4))):
        line = level + 0.25 * depth + rng.uniform(0.05, 0.2) * np.sin(rng.uniform(1, 5) * x + rng.uniform(0, 6))
        ground = (
            rng.uniform(0.15, 0.65)
            + rng.uniform(0.05, 0.15) * _texture(rng, max(height, width), rng.uniform(0.6, 1.5))[:height, :width]
        )
        scene = np.where(y > line, ground, scene)
    picture = _bytes(scene)
    for _ in range(int(rng.integers(2, 9))):
        left, top = (int(rng.uniform(0, 0.8) * each) for each in (width, height))
        right, bottom = left + int(rng.uniform(20, 200)), top + int(rng.uniform(20, 220))
        grey = int(rng.uniform(10, 245))
        match int(rng.integers(0, 3)):
            case 0:
                cv2.rectangle(picture, (left, top), (right, bottom), grey, -1)
                for column in range(left + 8, right - 8, 24):
                    for row in range(top + 8, bottom - 8, 28):
                        cv2.rectangle(picture, (column, row), (column + 10, row + 14), 255 - grey, -1)
            case 1:
                axes = (max(5, (right - left) // 2), max(5, (bottom - top) // 2))
                cv2.ellipse(picture, (left, top), axes, rng.uniform(0, 90), 0, 360, grey, -1, cv2.LINE_AA)
            case _:
                cv2.line(picture, (left, bottom), (left, top), 40, int(rng.uniform(4, 14)))
                for _ in range(60):
                    leaf = rng.normal((left, top), 35).astype(int)
                    cv2.circle(picture, leaf.tolist(), int(rng.uniform(3, 14)), int(rng.uniform(30, 130)), -1)
    return _finished(picture / 255.0, rng, noise=0.01)


def blank(rng: Rng) -> Grey:
    """An empty picture: one grey level, a gradient, or a plate without a patient."""
    height, width = SIDE, int(SIDE * rng.uniform(0.7, 1.3))
    y, x = _grid(height, width)
    level = float(rng.choice((0.0, 1.0, rng.uniform(0, 1))))
    match int(rng.integers(0, 3)):
        case 0:
            return _bytes(np.full((height, width), level))
        case 1:
            return _bytes(level + rng.uniform(-0.2, 0.2) * x + rng.uniform(-0.2, 0.2) * y)
        case _:
            return _finished(np.full((height, width), level), rng, noise=rng.uniform(0.002, 0.02))


def noise(rng: Rng) -> Grey:
    """Noise: white, of salt and pepper, in blots, or as of a broken detector."""
    height, width = SIDE, int(SIDE * rng.uniform(0.7, 1.3))
    match int(rng.integers(0, 4)):
        case 0:
            return _bytes(rng.random((height, width)))
        case 1:
            return np.where(rng.random((height, width)) < rng.uniform(0.2, 0.5), np.uint8(255), np.uint8(0))
        case 2:
            side = max(height, width)
            return _bytes(0.5 + 0.2 * _texture(rng, side, rng.uniform(0.3, 2.0))[:height, :width])
        case _:
            lines = rng.random((height, 1)) if rng.random() < 0.5 else rng.random((1, width))
            return _bytes(np.broadcast_to(lines, (height, width)) + 0.1 * rng.normal(size=(height, width)))


def text(rng: Rng) -> Grey:
    """A page of text or a screen, dark on white or the reverse."""
    height, width = SIDE, int(SIDE * rng.uniform(0.7, 1.3))
    page = np.full((height, width), 255, np.uint8)
    size, row = rng.uniform(0.35, 1.0), 30
    while row < height - 20:
        if rng.random() < 0.88:
            line = " ".join(rng.choice(WORDS, int(width / 45 / size * rng.uniform(0.3, 1.0)) + 1))
            cv2.putText(page, line, (20, row), cv2.FONT_HERSHEY_SIMPLEX, size, int(rng.uniform(0, 60)), 1, cv2.LINE_AA)
        row += int(34 * size) + 4
    return 255 - page if rng.random() < 0.3 else page


def chart(rng: Rng) -> Grey:
    """A chart: axes and curves, or bars."""
    height, width = SIDE, int(SIDE * rng.uniform(1.0, 1.5))
    page = np.full((height, width), 255, np.uint8)
    cv2.line(page, (50, 20), (50, height - 40), 0, 2)
    cv2.line(page, (50, height - 40), (width - 20, height - 40), 0, 2)
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 5))):
            rise = np.cumsum(rng.normal(size=60)) * 25 + rng.uniform(0.3, 0.7) * height
            points = np.stack([np.linspace(52, width - 30, 60), np.clip(rise, 25, height - 45)], axis=1)
            cv2.polylines(page, [points.astype(np.int32)], False, int(rng.uniform(0, 160)), 3, cv2.LINE_AA)
    else:
        for left in range(70, width - 60, 60):
            top = int(rng.uniform(0.1, 0.9) * height)
            cv2.rectangle(page, (left, min(top, height - 45)), (left + 40, height - 41), int(rng.uniform(30, 200)), -1)
    return 255 - page if rng.random() < 0.3 else page


KINDS: Mapping[str, Callable[[Rng], Grey]] = {
    "chest": chest, "ct": ct, "mr": mr, "photograph": photograph, "blank": blank, "noise": noise, "text": text,
    "chart": chart,
}  # fmt: skip
"""What is drawn, by name."""


def found() -> dict[str, list[Grey]]:
    """Real pictures of packages that are installed, by kind: `photograph`, `ct`, `mr`."""
    real: dict[str, list[Grey]] = {"photograph": [], "ct": [], "mr": []}
    for file in _photographs():
        picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        real["photograph"] += [picture, *_quarters(picture)] if min(picture.shape) >= 256 else [picture]
    real["photograph"] += list(_faces())
    for name, kind in (("CT_small.dcm", "ct"), ("MR_small.dcm", "mr")):
        real[kind].append(_slice(name))
    real["mr"] += list(_template())
    return real


def _photographs() -> Iterator[Path]:
    """Files of photographs."""
    names = {
        "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
        "matplotlib": ["mpl-data/sample_data/grace_hopper.jpg"],
        "skimage": [
            f"data/{name}"
            for name in (
                "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png",
                "gravel.png", "motorcycle_left.png", "rocket.jpg", "clock_motion.png", "moon.png",
            )
        ],
    }  # fmt: skip
    for package, files in names.items():
        for each in files:
            file = _inside(package, each)
            if file is not None:
                yield file


def _faces() -> Iterator[Grey]:
    """Faces of scikit-image, 25 x 25 pixels."""
    file = _inside("skimage", "data/lfw_subset.npy")
    if file is not None:
        for face in np.load(file, allow_pickle=False)[:10]:
            yield _bytes(face)


def _template() -> Iterator[Grey]:
    """Slices of the head that nilearn has as a template."""
    file = _inside("nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    if file is not None and importlib.util.find_spec("nibabel"):
        import nibabel

        volume = np.asarray(nibabel.load(file).dataobj, np.float64)
        volume /= volume.max()
        for share in np.linspace(0.3, 0.7, 7):
            for axis in range(3):
                yield _bytes(np.rot90(np.take(volume, int(share * volume.shape[axis]), axis)))


def _slice(name: str) -> Grey:
    """A slice of pydicom's test files, from its darkest to its brightest pixel."""
    import pydicom
    from pydicom.data import get_testdata_file

    pixels = pydicom.dcmread(str(get_testdata_file(name))).pixel_array.astype(np.float64)
    low, high = np.quantile(pixels, (0.01, 0.995))
    return _bytes((pixels - low) / (high - low))


def _quarters(picture: Grey) -> list[Grey]:
    """The quarters of a picture."""
    height, width = (each // 2 for each in picture.shape)
    return [picture[top : top + height, left : left + width] for top in (0, height) for left in (0, width)]


def _inside(package: str, file: str) -> Path | None:
    """A file of an installed package; None if there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / file
    return path if path.is_file() else None


def _grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Rows and columns in [-1, 1], float64 [H, W] each."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return y, x


def _soft(inside: Floats, edge: float) -> Floats:
    """From 0 outside to 1 inside, over an edge."""
    return np.asarray(1 / (1 + np.exp(-np.clip(4 * inside / edge, -50, 50))))


def _texture(rng: Rng, side: int, power: float) -> Floats:
    """Noise whose amplitude falls with the frequency to some power, as in photographs: float64 [S, S], variance 1."""
    across, down = np.fft.rfftfreq(side)[None, :], np.fft.fftfreq(side)[:, None]
    frequency = np.hypot(down, across)
    frequency[0, 0] = np.inf
    wave = (rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)) / frequency**power
    field = np.fft.irfft2(wave, (side, side))
    return np.asarray(field / field.std())


def _finished(picture: Floats, rng: Rng, noise: float) -> Grey:
    """With noise and a contrast of its own."""
    curve = np.clip(picture, 0, 1) ** rng.uniform(0.7, 1.4)
    return _bytes(curve + noise * rng.normal(size=picture.shape))


def _bytes(picture: npt.NDArray[Any]) -> Grey:
    """From [0, 1] to grey levels."""
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
