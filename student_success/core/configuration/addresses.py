"""IP addresses, URLs and ports."""

from __future__ import annotations

import ipaddress
import socket

from student_success.core.errors import ConfigurationError

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
"""For each address that means "every address of the machine", one that a client can connect to."""


def is_address(text: str) -> bool:
    """Tell whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(text: str) -> bool:
    """Tell whether a text is an IP address of this machine alone."""
    return is_address(text) and ipaddress.ip_address(text).is_loopback


def http_url(host: str, port: int) -> str:
    """Return the URL of an address; an IPv6 one needs brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_port(setting: str, host: str, port: int) -> None:
    """Check that this process can listen on a port.

    Raises
    ------
    ConfigurationError
        With the name of the setting, if it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigurationError(
            f"The service was not started: {setting} {port} on {host} cannot be used "
            f"({error.strerror}). Stop the program that uses it, or set another {setting}."
        ) from error
