"""The old place of `pipeline.models._detection.weights`, for whoever still imports it from here."""

from pipeline.models._detection.weights import listed, read

__all__ = ["listed", "read"]
