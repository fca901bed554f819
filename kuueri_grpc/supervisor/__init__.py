"""A server of several processes: one that supervises, and workers that do the work.

The supervisor holds the embedded store and the port, starts the workers, and starts another one for each
that ends. It imports neither gRPC nor the HTTP client, so it is small, and does nothing that could fail.
"""

from kuueri_grpc.supervisor.supervise import supervise

__all__ = ["supervise"]
