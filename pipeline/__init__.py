"""What is computed: stages, their parts, and the record of what came of them. Imports no Prefect."""

import os

# Before torch is imported. Its threads otherwise spin while they wait for each other, and fight the threads that
# augment pictures: the digits trained for 169 s on two busy cores, and for 38 s with this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
