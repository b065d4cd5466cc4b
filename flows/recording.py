"""The MLflow side of a flow: everything that waits for MLflow happens in one thread beside the stages.

Importing MLflow and opening its database takes seconds, and a server may be away; the stages wait for neither.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

from flows.stage import StageRun
from pipeline.door import PARAMS
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.registry import attempts, code
from pipeline.registry.attempts import Finished
from pipeline.registry.champion import Version
from pipeline.registry.gate import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pipeline.registry.drain import Drain
    from pipeline.registry.record import Run


class Recording:
    """One flow run as one MLflow run, also when it was killed and taken up again."""

    def __init__(self, params: Params, tags: dict[str, str]) -> None:
        self._params = params
        self._tags = tags
        self._code = code.read()
        self._attempt = attempts.begin(params)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow")

    def __enter__(self) -> Recording:
        self._opening = self._thread.submit(self._open)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(Exception):  # the error that ends the flow is the one to tell
                run, drain = vars(self).get("_opened") or self._opening.result()
                drain.stop()
                self._interrupt(run, "FAILED" if isinstance(error, Exception) else "KILLED")
        self._thread.shutdown()

    @property
    def client(self) -> MlflowClient:
        """Of the tracking store."""
        return self._opened[0].client

    def stage(self, done: StageRun) -> None:
        """Note a stage that has ended."""
        if done.outcome == "ran":
            attempts.stage_ran(done.name, done.seconds)

    def register(self) -> Version:
        """Log what the stages left, and register the model."""
        from pipeline.registry import record, summary, versions

        run, drain = self._opened
        drain.finish()
        record.record_outputs(run, self._params)
        tags = {"git.commit": self._code.commit or "none", "score": summary.headline(self._params)}
        return versions.register(run, tags, summary.of_version(self._params, self._code))

    def conclude(self, version: Version, verdict: Verdict, reigns: bool) -> Finished:
        """Say in MLflow what came of it, close the run, and remember that nothing is left to do."""
        from pipeline.registry import record, summary

        run, _ = self._opened
        record.keep(run, "gate.json", verdict.model_dump(mode="json"))
        tags = {"model.version": version.version, "model.digest": version.digest, "gate": verdict.outcome}
        record.note(run, tags, summary.of_run(self._params, self._code, version, verdict, reigns))
        finished = Finished(
            run=run.id, version=version.version, outcome=verdict.outcome, champion=reigns, reasons=verdict.reasons
        )
        record.close(run)
        attempts.remember(PARAMS.read_text(encoding="utf-8"), finished)
        return finished

    @cached_property
    def _opened(self) -> tuple[Run, Drain]:
        """The open run; waits for it."""
        try:
            return self._opening.result()
        except UserError:
            return self._open()  # MLflow was away when the run began; training did not wait, and it may be back

    def _open(self) -> tuple[Run, Drain]:
        from pipeline.registry import record, tracking
        from pipeline.registry.drain import Drain

        client = tracking.connect()
        run = record.open_run(client, self._attempt, self._params, self._code, self._tags)
        return run, Drain(client, run.id, self._attempt.started).start()

    @staticmethod
    def _interrupt(run: Run, status: str) -> None:
        from pipeline.registry import record

        record.interrupt(run, status)
