"""Prefect's and MLflow's servers: started for the dashboards, or privately for one run."""
