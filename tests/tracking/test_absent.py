"""What stores say of a file that they do not have, and what only looks like it."""

import pytest

from components.tracking.absent import is_lost


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("API request failed with error code 404 != 200", True),
        ("An error occurred (NoSuchKey) when calling the GetObject operation", True),
        ("404 Client Error: Not Found for url: http://127.0.0.1:5000/get", True),
        ("HTTPConnectionPool(host='h', port=4040): Max retries exceeded with url: /api/m-1404f (Caused by ...)", False),
        ("HTTPConnectionPool(host='h', port=404): Max retries exceeded with url: /api/404 (refused)", False),
        ("500 Server Error for url: http://127.0.0.1:14040/models/404/files", False),
    ],
)
def test_digits_of_an_address_are_no_status(text: str, lost: bool) -> None:
    assert is_lost(OSError(text)) is lost
