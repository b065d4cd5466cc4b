"""When things run: Prefect flows over the stages of `dvc.yaml`, and `convoy`, the front door. Computes nothing."""
