"""Kuueri Tasks: subscribe an HTTP task over gRPC, have it run when due, follow its timeline live."""

__version__ = "0.1.0"
