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
        """The most probable class of each picture, its probability, and those of all classes by name."""
        probabilities = self.bundle.probabilities(list(model_input["image"]))
        classes = self.bundle.info.classes
        return pd.DataFrame(
            {
                "label": [classes[best] for best in probabilities.argmax(axis=1)],
                "probability": probabilities.max(axis=1),
                "probabilities": [dict(zip(classes, row.tolist(), strict=True)) for row in probabilities],
            }
        )


set_model(Served())
