"""Addresses, and the secrets in them."""

import re
from urllib.parse import quote

S3_SCHEME = "s3://"
HIDDEN = "***"
"""In the place of a secret."""
TRAINING = "workflowType=machine_learning"
"""What makes MLflow's pages show trainings. A first visit shows language models otherwise, with no trace in the list,
whatever the tag mlflow.experimentKind says (MLflow 3.17)."""

# `user:password@` behind the slashes. The first form ends at the path. In the second the password has a slash or
# another sign that should have been written as %2F; what follows a port is no password. The numbers of letters have
# limits: a line of a log may be megabytes long.
_LOGIN = re.compile(
    r"(?P<before>(?<![\w+.-])[A-Za-z][\w+.-]{0,30}://|(?<![\w:/])//)"
    r"(?:[^/\s?#]{0,500}@|[^/@:\s\[]{0,200}:(?!\d+(?:[/?#'\",;)\s]|$))[^@\s]{0,500}@)"
)
# The same where the scheme was forgotten. `mura:tag@sha256:...` is an image.
_LOGIN_ALONE = re.compile(r"(?<![\w/.+@-])[\w.+-]{1,100}:(?!//)[^\s@/:]{1,500}@(?!sha256:)(?=[\w\[])")
# Words in the names of parameters whose values open something, also those of addresses that are signed (S3, Google,
# Azure).
_OPENS = r"(?:password|passwd|pwd|token|secret|signature|credential|access_?key|account_?key|api[_-]?key)"
# Names that are known by the `?` or `&` before them: elsewhere they mean other things.
_SHORT = r"(?:sig|key|auth|code|pass)"
# A value that begins so is a place for one: `$TOKEN`, `<token>`, `...`.
_VALUE = r"(?![$<.*{])(?:'[^']+'|\"[^\"]+\"|[^\s&;#,'\"<>)\]]*[^\s&;#,'\"<>)\]:.])"
_PARAMETER = re.compile(rf"(?P<before>(?:[?&;#]{_SHORT}|{_OPENS}[\w-]{{0,20}})=){_VALUE}", re.IGNORECASE)
_IN_JSON = re.compile(rf"(?P<before>{_OPENS}\w{{0,20}}['\"]\s{{0,9}}:\s{{0,9}})(?:'[^']+'|\"[^\"]+\")", re.IGNORECASE)
_HEADER = re.compile(
    r"(?P<before>\bauthorization['\"]?\s{0,9}[:=]\s{0,9}['\"]?(?:\w{1,20}\s{1,9})?|\bbearer\s{1,9}(?=[\w.~+/=-]{16}))"
    r"[^\s'\",]+",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """A URL, or a text with URLs, without the secrets in them.

    `user:password@` is left out. Passwords, tokens and signatures in parameters and headers are replaced by `***`.
    """
    if "@" in text:
        text = _LOGIN_ALONE.sub("", _LOGIN.sub(r"\g<before>", text))
    for pattern, sign in ((_PARAMETER, "="), (_IN_JSON, ":"), (_HEADER, " ")):
        if sign in text:
            text = pattern.sub(rf"\g<before>{HIDDEN}", text)
    return text


def mlflow_page(uri: str, page: str = "") -> str:
    """The address of a page of MLflow, for a browser.

    Args:
        uri: of the tracking server, MLFLOW_TRACKING_URI.
        page: such as `models/mura/versions/3`; empty for the first one.

    Returns:
        The address, without a login; empty if the URI names no server.
    """
    if not uri.lower().startswith(("http://", "https://")):
        return ""
    return f"{without_credentials(uri).rstrip('/')}/#/{quote(page)}?{TRAINING}"


def check_written_out(place: str) -> None:
    """Check that a place needs no shell: neither DVC nor the system knows what one makes of `~`.

    Raises:
        ValueError: it begins with `~`.
    """
    if re.match(r"~[^/]*/", place) or place == "~":
        raise ValueError("`~` is not expanded here; write the whole path, or ./~ for a directory of that name")
