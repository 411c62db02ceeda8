"""The error that a data set raises."""

from __future__ import annotations


class DataError(ValueError):
    """Files of a data set that are missing, short, corrupt or not the published ones; names the file or the key."""
