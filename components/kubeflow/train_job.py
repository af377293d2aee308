"""How far a training is, for the status of its TrainJob.

Kubeflow Trainer gives the pods of a TrainJob an address, the file of its certificate's authority, and the file of a
token, where its feature gate `TrainJobStatus` is on. The TrainJob's `status.trainerStatus` then has a percentage, the
time that is left, and the last metrics: `kubectl get trainjob NAME -o yaml`.
https://github.com/kubeflow/trainer/tree/master/docs/proposals/2779-trainjob-progress
"""

import http.client
import json
import logging
import math
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from components.base import answers

logger = logging.getLogger(__name__)

URL = "KUBEFLOW_TRAINER_SERVER_URL"
AUTHORITY = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
"""The file with the certificate of the server's authority."""
TOKEN = "KUBEFLOW_TRAINER_SERVER_TOKEN"  # noqa: S105 - a name of a variable
"""The file with the token. It changes every hour."""
_SECONDS = 5
# Until the head of an answer, seconds.
_LONGEST = 10
# Characters of a metric's name and value that the server takes.
_MOST = 64


def tell(done: int, left: int, seconds_left: float, metrics: Mapping[str, float]) -> None:
    """Tell the TrainJob of this pod how far its training is. Without one, do nothing. Never fails.

    Args:
        done: epochs.
        left: epochs, at most.
        seconds_left: at most.
        metrics: of the last epoch, by name.
    """
    url = os.environ.get(URL)
    if not url:
        return
    values = {"epoch": str(done)} | {name: f"{value:.6g}" for name, value in metrics.items() if math.isfinite(value)}
    status = {
        "progressPercentage": round(100 * done / (done + left)),
        "estimatedRemainingSeconds": max(0, round(seconds_left)),
        "metrics": [{"name": name[:_MOST], "value": value[:_MOST]} for name, value in values.items()],
        "lastUpdatedTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    try:
        _send(url, json.dumps({"trainerStatus": status}).encode())
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        logger.info("train: the TrainJob is not told how far the training is: %s", reason)


def _send(url: str, body: bytes) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{URL}: expected https://")
    question = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - see above
    if token := os.environ.get(TOKEN):
        # Not sent to the target of a redirect.
        question.add_unredirected_header("Authorization", f"Bearer {Path(token).read_text(encoding='ascii').strip()}")
    context = ssl.create_default_context(cafile=os.environ.get(AUTHORITY) or None)
    with answers.limited(seconds=_LONGEST):
        urllib.request.urlopen(question, timeout=_SECONDS, context=context).close()  # noqa: S310
