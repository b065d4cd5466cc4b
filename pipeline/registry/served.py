"""A registered model as MLflow serves it: encoded pictures in, answers out. Stored with the model as code, not pickled.

MLflow runs this file when the model is loaded; beside it lie the few modules of Convoy that it imports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.bundle import Bundle


class Served(PythonModel):
    """Answers for a column `image` of encoded pictures (JPEG, PNG, ...)."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle among the model's artifacts."""
        self.bundle = Bundle.open(Path(context.artifacts["model"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 (MLflow passes it by name)
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """What the task says of each picture: a class, boxes, or a mask, each in columns of its own."""
        prepared = [self.bundle.prepare(encoded) for encoded in model_input["image"]]
        told = self.bundle.answer(prepared)
        return pd.DataFrame([self.bundle.task.plain(one, self.bundle.info.classes) for one in told])


set_model(Served())
