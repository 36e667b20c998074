"""Test queue workers by making them fail on purpose."""

__version__ = "0.1.0"
