# What compose.yaml runs: Python, git and the packages of requirements.lock. The code is that of the mounted clone.
FROM python:3.13-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git tini \
    && rm -rf /var/lib/apt/lists/*

COPY requirements.lock /
RUN pip install --no-cache-dir --require-hashes --no-deps --requirement /requirements.lock

ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["tini", "--", "python", "-m", "flows.cli"]
