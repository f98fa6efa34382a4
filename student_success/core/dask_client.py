"""Connect to a Dask scheduler, for training and for bulk scoring."""

from __future__ import annotations

from typing import Any

from student_success.core.errors import ConfigurationError, UnavailableError

CONNECT_SECONDS = 10.0


def connect(address: str) -> Any:
    """Return a `distributed.Client`, which closes at the end of a ``with`` block.

    Parameters
    ----------
    address
        Address of the scheduler, e.g. ``tcp://scheduler:8786``.

    Raises
    ------
    ConfigurationError
        If Dask is not installed.
    UnavailableError
        If no scheduler answers at the address.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ConfigurationError(
            'Dask is not installed: install "student-success[scale]" (in a checkout '
            "requirements/full.txt)."
        ) from None
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"No Dask scheduler answers at {address}.") from error
