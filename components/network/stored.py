"""A network as the registry has it: one Keras file that needs no code of ours."""

from pathlib import Path

import keras

from components.base.errors import first_line


def load(file: Path) -> keras.Model:
    """Load a network. Keras' safe mode refuses layers that bring code.

    Args:
        file: a `.keras` file.

    Returns:
        From pixels, [B, S, S, 1] in [0, 255], to the logit of abnormality, float32 [B, 1].

    Raises:
        ValueError: it is no such network.
    """
    try:
        network = keras.models.load_model(file, compile=False, safe_mode=True)
    except Exception as error:
        raise ValueError(f"its network cannot be loaded ({first_line(error)})") from error
    shapes = [tuple(each.shape) for each in (*network.inputs, *network.outputs)]
    if len(shapes) != 2 or len(shapes[0]) != 4 or shapes[0][3] != 1 or shapes[1][1:] != (1,):
        raise ValueError(f"its network goes from {shapes[0]} to {shapes[-1]}, not from a picture to a logit")
    return network
