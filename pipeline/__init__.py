"""What is computed: stages, their parts, and the record of what came of them. Imports no Prefect."""

import os

# Before torch is imported. Its threads otherwise spin for long while they wait for each other, and fight the threads
# that augment pictures: the digits train at 320 to 740 images/s with 100,000 spins on two cores, at 1,300 with 1,000.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # the same for the other OpenMP library, on macOS
# Where safetensors runs out of memory, Rust would look for its own call stack, run out once more, and wait for itself
# for ever, with Python's lock in its hands; whoever debugs Rust had better debug it elsewhere.
os.environ["RUST_BACKTRACE"] = "0"
