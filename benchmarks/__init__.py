"""What the server costs and how late it is, measured from outside. `python -m benchmarks --help`.

    cli -> scenarios -> harness       real processes: `kuueri serve`, a target, load clients
    micro                             single steps, in this process; `python -m benchmarks.micro`

Needs Linux: CPU time and memory are read from /proc. `docs/benchmarks.md` says what each figure means.
"""

import os

# The clients fork to start processes, which exec at once: gRPC has nothing to prepare for them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
