"""What the process that `forked` forks from has loaded."""

import pandas  # noqa: F401 (pyarrow's answers to parquet files want it)
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo
import torch.export._trace

import pipeline.augment.stage
import pipeline.bundle
import pipeline.evaluate.stage
import pipeline.ingest.stage
import pipeline.train.stage  # noqa: F401

torch.set_num_threads(1)  # threads do not outlive a fork
