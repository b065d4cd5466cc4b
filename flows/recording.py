"""The MLflow side of a flow: everything that waits for MLflow happens in one thread beside the stages.

Importing MLflow and opening its database takes seconds, and a server may be away; the stages wait for neither.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING

from flows import logs
from flows.stage import Mistake, StageRun
from pipeline.door import PARAMS
from pipeline.errors import UserError, shortened
from pipeline.failpoints import Point, passing
from pipeline.files import write_json
from pipeline.journal import current_since
from pipeline.params import Params
from pipeline.progress import write_log
from pipeline.registry import attempts, code
from pipeline.registry.attempts import Attempt, Finished, Work
from pipeline.registry.cases import Case
from pipeline.registry.champion import Version
from pipeline.registry.verdict import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pipeline.registry.drain import Drain
    from pipeline.registry.record import Run
    from pipeline.registry.runs import RunRecord

LOOK_SECONDS = 0.5
"""Between two looks whether training has begun."""
LONGEST = 2_000
"""Characters of why a run stopped short that its record keeps; its log has all of them."""
RETRY_SECONDS = 2.0
"""Between two tries to reach a store that was away when the run began."""


class Recording:
    """One flow run as one MLflow run, also when it was killed and taken up again."""

    def __init__(self, params: Params, tags: dict[str, str]) -> None:
        self._params = params
        self._tags = tags
        self._code = code.read()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        self._since = time.time_ns() // 1_000_000
        self._seconds: dict[str, float] = {}
        self._stage = ""
        self._ended = threading.Event()
        self._work: Work | None = None
        self._opening: Future[tuple[Run, Drain]] | None = None

    def __enter__(self) -> Recording:
        self._thread.submit(_load_mlflow)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        try:
            if error is not None and self._work:
                self._interrupt(error)
        finally:
            self._thread.shutdown()
            if self._work:
                self._work.release()

    @property
    def client(self) -> MlflowClient:
        """Of the tracking store."""
        return self._opened()[0].client

    @property
    def attempt(self) -> Attempt:
        """What is known of the run so far."""
        assert self._work is not None, "the run begins when its data are known"
        return self._work.attempt

    def begin(self, dataset: str) -> None:
        """The run's data are known, by their digest, and so is which run it is: a new one, or one to go on with."""
        flow_run = self._tags.get("prefect.flow_run", "")
        self._work = attempts.begin(self._params, dataset, flow_run, wait=_say_that_another_works)
        write_json(attempts.folder(self.attempt.id) / attempts.CODE, asdict(self._code))
        logs.go_on(self._work.before, flow_run)
        self._work.at(self._stage)
        for stage, seconds in self._seconds.items():
            self._work.stage_ran(stage, seconds)
        threading.Thread(target=self._look_for_training, name="training", daemon=True).start()
        self._opening = self._thread.submit(self._open)

    def at(self, stage: str) -> None:
        """Note what is at work now: a stage, or what comes after them."""
        self._stage = stage
        if self._work:
            self._work.at(stage)

    def stage(self, done: StageRun) -> None:
        """Note a stage that has ended."""
        self._training_found()
        write_log(f"{done.name}: {done.outcome}, {done.seconds:.1f} s")
        if done.outcome == "ran":
            self._seconds[done.name] = done.seconds
            if self._work:
                self._work.stage_ran(done.name, done.seconds)

    def register(self) -> Version:
        """Log what the stages left, and register the model."""
        from pipeline.registry import record, summary, versions

        self.at("register")
        run, drain = self._opened()
        drain.finish()
        record.record_outputs(run, self._params, self.attempt.seconds)
        tags = {"git.commit": self._code.commit or "none", "score": summary.headline(self._params)}
        return versions.register(run, tags, summary.of_version(self._params, self._code))

    def judged(self, case: Case) -> None:
        """Note what the gate says."""
        assert self._work is not None
        self._work.judged(case.id, case.verdict.model_dump(mode="json"))
        passing(Point.VERDICT_NOTED)

    def whole(self, version: Version, verdict: Verdict, tags: dict[str, str]) -> RunRecord:
        """The record of the run, which can travel."""
        from pipeline.registry import runs

        return runs.gather(self.attempt, self._params, self._code, version, verdict, tags)

    def conclude(self, whole: RunRecord, reigns: bool) -> Finished:
        """Say in MLflow what came of it, close the run, and remember that nothing is left to do."""
        from pipeline.registry import record, runs, summary

        assert self._work is not None
        run, _ = self._opened()
        version, verdict = whole.version, whole.verdict
        finished = Finished(
            id=self.attempt.id,
            run=run.id,
            version=version.version,
            outcome=verdict.outcome,
            champion=reigns,
            reasons=verdict.reasons,
        )
        record.keep(run, "gate.json", verdict.model_dump(mode="json"))
        record.keep(run, runs.ARTIFACT, whole.model_dump(mode="json"))
        tags = whole.tags | {"model.version": version.version, "model.digest": version.digest, "gate": verdict.outcome}
        record.note(run, tags, summary.of_run(self._params, self._code, version, verdict, reigns))
        record.close(run)
        passing(Point.RUN_CLOSED)
        runs.write(whole)
        passing(Point.RECORD_WRITTEN)
        self._work.finish(PARAMS.read_text(encoding="utf-8"), finished)
        write_log(f"The run has ended: {version.name} version {version.version}, {verdict.outcome}.")
        return finished

    def _opened(self) -> tuple[Run, Drain]:
        """The open run; waits for it."""
        assert self._opening is not None, "the run begins when its data are known"
        from pipeline.registry.tracking import Away, patience

        until, waits = time.monotonic() + patience(), False
        while True:
            try:
                return self._opening.result()
            except Away:  # when the run began; training did not wait, and it may be back
                if waits and time.monotonic() > until:
                    raise
            if waits:
                time.sleep(RETRY_SECONDS)
            else:
                print(f"MLflow was away when the run began; this waits for it {patience():.0f} s at most.", flush=True)
            waits = True
            self._opening = self._thread.submit(self._open)

    def _open(self) -> tuple[Run, Drain]:
        from pipeline.registry import record, tracking
        from pipeline.registry.drain import Drain

        assert self._work is not None
        client = tracking.connect()
        run = record.open_run(client, self._work, self._params, self._code, self._tags)
        with tracking.reaching(tracking.address()):
            return run, Drain(client, run.id, self._since, self._work.attempt.training).start()

    def _look_for_training(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            if self._training_found():
                return

    def _training_found(self) -> bool:
        """Note the training that was started in this flow run; whether there is one."""
        home = current_since(self._since) if self._work else None
        if self._work and home:
            self._work.trains(home.name)
        return home is not None

    def _interrupt(self, error: BaseException) -> None:
        from pipeline.registry import record
        from pipeline.registry.tracking import Away

        assert self._work is not None
        words = shortened(str(error).strip(), LONGEST) or type(error).__name__
        mistake = isinstance(error, Mistake)
        with suppress(OSError, UserError):  # as below, of a disk that is full
            self._training_found()
            self._work.stopped(words, told=False, mistake=mistake)
        if isinstance(error, Away) or self._opening is None:  # the next run tells it
            return
        with suppress(Exception):  # the error that ends the flow is the one to tell
            run, drain = self._opening.result()
            drain.stop()
            record.interrupt(run, "FAILED" if isinstance(error, Exception) else "KILLED")
            self._work.stopped(words, told=True, mistake=mistake)


def _load_mlflow() -> None:
    import mlflow  # noqa: F401


def _say_that_another_works() -> None:
    print("The very same run is at work in another tree of this project; waiting for what it comes to.", flush=True)
