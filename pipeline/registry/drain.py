"""The training journal -> MLflow, in batches, from a thread of the flow that training never waits for.

What MLflow already has is asked of MLflow itself: of each metric the last step. So every step is logged once, however
often the run is killed and taken up again, and a server that was away gets all that it missed. Where a training that
diverged went back, the steps after that are logged a second time, as they were taken then.

Members of an ensemble have metrics of their own, with steps and epochs as each has them: `member_2/train/loss`.
"""

from __future__ import annotations

import csv
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.journal import ROLLBACK, Row, current_since, head, journals, read, trainings
from pipeline.registry.tracking import Away, reason
from pipeline.registry.tracking import patience as usual_patience

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

CURVES = Path("out/training")
TABLES = (
    ("steps.csv", "step", "train"),
    ("gradients.csv", "step", "gradient_norm"),
    ("epochs.csv", "epoch", "epoch"),
)
"""The curves as the stage leaves them: file, its column of steps, and how its metrics' names in MLflow begin."""
SERIES = {"train": "step", "gradient_norm": "gradient", "epoch": "epoch"}
"""By the beginning of a metric's name the series of the journal that it is in."""
POLL_SECONDS = 1.0
LONGEST_WAIT = 30.0
AT_ONCE = 1000
"""Metrics of one batch: MLflow's limit."""
SAMPLING_SECONDS = 5


class Drain:
    """Sends what training notes to one MLflow run, and the machine's load beside it."""

    def __init__(self, client: MlflowClient, run_id: str, since: int, training: str = "") -> None:
        """
        Args:
            client: of the tracking store.
            run_id: of the MLflow run.
            since: when the flow run began, in milliseconds since 1970; an older journal is another run's.
            training: folder of the run's training, if it was taken up again.
        """
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._client, self._run_id, self._since = client, run_id, since
        self._begun = trainings() / training if training else None
        self._offsets: dict[tuple[Path, bytes], int] = {}  # by journal, and how it begins
        self._logged: dict[str, int] | None = None  # the last step of each metric, once MLflow has told
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="drain", daemon=True)
        self._monitor = SystemMetricsMonitor(run_id, sampling_interval=SAMPLING_SECONDS, resume_logging=True)  # type: ignore[no-untyped-call]

    def start(self) -> Drain:
        """Begin to follow the journal."""
        self._monitor.start()  # type: ignore[no-untyped-call]
        self._thread.start()
        return self

    def finish(self, patience: float | None = None) -> None:
        """Send the rest, from the journal and then from the stage's files, until MLflow has every step.

        Args:
            patience: seconds for a server that is away; by default those of `tracking.patience`.

        Raises:
            Away: it stays away; nothing is lost.
        """
        self.stop()
        patience = usual_patience() if patience is None else patience
        until, wait = time.monotonic() + patience, POLL_SECONDS
        while True:
            try:
                self._send_journal()
                for member, rows in _from_files(self._since).items():
                    self._send_rows(rows, member)
                return
            except Exception as error:  # whatever the client raises while its server is away
                if time.monotonic() > until:
                    raise Away(
                        f"MLflow does not take the metrics: {reason(error)}\nNothing is lost: start "
                        "its server and run the same command again; it sends what is missing."
                    ) from error
                if wait == POLL_SECONDS:
                    print(f"MLflow is away; this waits for it {patience:.0f} s at most.", flush=True)
                time.sleep(min(wait, max(0.0, until - time.monotonic())))
                wait = min(2 * wait, LONGEST_WAIT)

    def stop(self) -> None:
        """Stop following, with the rest unsent."""
        self._stop.set()
        if self._thread.is_alive():
            # Not waited for: what it has in hand is a courtesy, and a server that hangs would hold it for long.
            threading.Thread(target=self._monitor.finish, name="monitor", daemon=True).start()
            self._thread.join()

    def _follow(self) -> None:
        wait = POLL_SECONDS
        while not self._stop.wait(wait):
            try:
                self._send_journal()
                wait = POLL_SECONDS
            except Exception:  # as above; `finish` says so if it does not end
                wait = min(2 * wait, LONGEST_WAIT)

    def _send_journal(self) -> None:
        home = current_since(self._since) or self._begun
        for member, journal in (journals(home) if home else {}).items():
            begins = journal, head(journal)
            rows, offset = read(journal, self._offsets.get(begins, 0))
            self._send_rows(rows, member)
            self._offsets[begins] = offset

    def _send_rows(self, rows: list[Row], member: int) -> None:
        """Send what is new of `rows`, each metric in the order of its steps; of an ensemble under the member's name."""
        from mlflow.entities import Metric

        batch: list[Metric] = []
        own = f"member_{member}/" if member else ""
        for row in rows:
            if row.series == ROLLBACK:
                self._send(batch)
                self._take_back(row, own)
                batch = []
                continue
            named = {f"{own}{key}": value for key, value in row.values.items()}
            new = [(key, value) for key, value in named.items() if row.step > self._last(key)]
            if len(batch) + len(new) > AT_ONCE:
                self._send(batch)
                batch = []
            batch += [Metric(key, value, row.time, row.step) for key, value in new]
        self._send(batch)

    def _send(self, batch: list[Metric]) -> None:
        if not batch:
            return
        # A batch whose answer was lost is sent again as it was; MLflow knows it by key, time, step and value.
        self._client.log_batch(self._run_id, metrics=batch)
        self._known().update({metric.key: metric.step for metric in batch})

    def _take_back(self, row: Row, own: str) -> None:
        """Let the steps that are taken again be logged again; MLflow knows those that it has from an earlier drain."""
        known = self._known()
        for key in known:
            measured = key.removeprefix(own).partition("/")[0] if key.startswith(own) else ""
            first = row.values.get(SERIES.get(measured, ""))
            if first is not None:
                known[key] = min(known[key], int(first) - 1)

    def _last(self, key: str) -> int:
        return self._known().get(key, -1)

    def _known(self) -> dict[str, int]:
        if self._logged is None:
            metrics = self._client.get_run(self._run_id).to_proto().data.metrics
            self._logged = {metric.key: metric.step for metric in metrics}
        return self._logged


def _from_files(moment: int) -> dict[int, list[Row]]:
    """The curves as the stage left them, by member, 1-based; of the only training as 0.

    The time is not in its files, so all have the same one.
    """
    rows: dict[int, list[Row]] = {}
    for name, counter, prefix in TABLES:
        try:
            lines = list(csv.DictReader((CURVES / name).open(encoding="utf-8", newline="")))
        except OSError:
            continue
        for line in lines:
            member, step = int(line.pop("member", 0)), int(line.pop(counter))
            values = {f"{prefix}/{column}": float(value) for column, value in line.items() if value}
            rows.setdefault(member, []).append(Row(moment, counter, step, values))
    return rows
