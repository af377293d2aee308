"""What SeaweedFS lets a key do, by its `-s3.config`: the rule of `canDo` in its weed/s3api/auth_credentials.go."""

from collections.abc import Iterable
from typing import Any

NEEDS = {
    "GetObject": "Read",
    "HeadObject": "Read",
    "ListObjects": "List",
    "PutObject": "Write",
    "DeleteObject": "Write",
    "CreateMultipartUpload": "Write",
    "CreateBucket": "Admin",
    "DeleteBucket": "Admin",
    "PutBucketPolicy": "Admin",
}
"""The action that a request needs."""


def may(identity: dict[str, Any], request: str, bucket: str, key: str = "") -> bool:
    """Whether an identity of the configuration may do it. Of a list, `key` is the prefix."""
    actions, action = identity["actions"], NEEDS[request]
    if "Admin" in actions or action in actions:
        return True
    path = f"{bucket}/{key}" if key else bucket
    return any(_fits(each, f"{kind}:{path}", f"{kind}:{bucket}") for each in actions for kind in (action, "Admin"))


def _fits(allowed: str, wanted: str, bucket: str) -> bool:
    return wanted.startswith(allowed[:-1]) if allowed.endswith("*") else allowed == bucket


def the(identities: Iterable[dict[str, Any]], access_key: str) -> dict[str, Any]:
    """The identity whose key it is."""
    (found,) = (each for each in identities if access_key in [key["accessKey"] for key in each["credentials"]])
    return found
