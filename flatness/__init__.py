"""Instruments of flatness for any torch model."""

__version__ = "0.1.0"
