"""Addresses and names under which a server is asked."""

import ipaddress

LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine in a Host header."""


def is_local(address: str) -> bool:
    """Whether an address is one of this machine alone."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """The name in a Host header, without port."""
    name, _, port = header.rpartition(":")
    return (name if name and port.isdigit() and not name.endswith(":") else header).lower()


def written(address: str) -> str:
    """An address as URLs have it."""
    return f"[{address}]" if ":" in address else address
