"""Fixtures of the telemetry's tests: the ports of a real store."""

from tests.store.fixtures import ports, store_settings

__all__ = ["ports", "store_settings"]
