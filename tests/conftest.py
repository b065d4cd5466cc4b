"""The order of the suite: what takes longest comes first, so that no worker is left alone with it at the end."""

from __future__ import annotations

import pytest

LONGEST = ("test_flow", "test_resume", "test_servers", "test_record", "test_models", "test_evaluate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file; within a file the order stays."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
