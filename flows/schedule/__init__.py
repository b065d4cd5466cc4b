"""When retraining runs by itself: deployments in prefect.yaml, their times, and news at their sources."""
