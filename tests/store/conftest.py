from tests.store.fixtures import ports, store_settings

__all__ = ["ports", "store_settings"]
