"""The record of a run in MLflow, model versions, the gate, the champion and its ledger."""
