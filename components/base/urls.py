"""Addresses."""

import re

S3_SCHEME = "s3://"


def without_credentials(url: str) -> str:
    """The same URL without `user:password@`."""
    return re.sub(r"//[^/]*@", "//", url)
