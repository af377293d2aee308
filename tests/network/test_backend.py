import pytest
import tensorflow as tf

from components.base.errors import OutsideFailed
from components.network import backend


def test_too_little_memory_is_one_line_that_says_what_to_do() -> None:
    with (
        pytest.raises(OutsideFailed, match=r"memory of the device \(CPU\) is too small. Choose") as told,
        backend.memory_errors("Choose a smaller batch_size than 32."),
    ):
        tf.zeros([2**46])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("wanted", ["float32", "mixed_bfloat16"])
def test_a_precision_that_is_named_is_used(wanted: str) -> None:
    assert backend.precision(wanted) == wanted
