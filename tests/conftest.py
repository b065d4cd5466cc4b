"""The order of the suite: what takes longest comes first, so that no worker is left alone with it at the end."""

from __future__ import annotations

import os
import shutil
import tempfile

import hypothesis
import pytest

LONGEST = (
    "test_failpoints",
    "test_story",
    "test_verify",
    "test_experiments",
    "test_ready_params",
    "test_killed",
    "test_processes",
    "test_disk_full",
    "test_away",
    "test_worker",
    "test_races",
    "test_gc",
    "test_compare",
    "test_flow",
    "test_resume",
    "test_schedule_server",
    "test_servers",
    "test_remote",
    "test_suspension",
    "test_trial",
    "test_live",
    "test_page_servers",
    "test_page_browser",
    "test_page_access",
    "test_page_decisions",
    "test_notify",
    "test_record",
    "test_models",
    "test_evaluate",
    "test_schedule_times",
    "test_detectors",
    "test_instance_models",
    "test_embeddings",
    "test_instances",
    "test_rf_detr",
)


hypothesis.settings.register_profile(  # a busy one is no defect
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Folders for this process and for the session.

    Projects of other tests, and the user's own, do not take turns with ours on the processor. What is made once for
    all is made in the folder of the session, which the first process makes and its workers inherit.
    """
    os.environ["CONVOY_LOCKS"] = tempfile.mkdtemp(prefix="convoy-locks-")
    if not hasattr(config, "workerinput"):
        os.environ["CONVOY_TESTS"] = tempfile.mkdtemp(prefix="convoy-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    shutil.rmtree(os.environ["CONVOY_LOCKS"], ignore_errors=True)
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["CONVOY_TESTS"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file; within a file the order stays."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
