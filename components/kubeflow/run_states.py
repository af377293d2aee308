"""The states that a run of Kubeflow had."""

from collections.abc import Sequence


def cancelled(history: Sequence[str | None]) -> bool:
    """Whether a run was cancelled. The server says FAILED of it, after CANCELING.

    Args:
        history: its states in the order in which it had them. After a retry a run is RUNNING again: what was before
            that does not count.
    """
    runs = [number for number, state in enumerate(history) if state == "RUNNING"]
    return "CANCELING" in history[runs[-1] if runs else 0 :]
