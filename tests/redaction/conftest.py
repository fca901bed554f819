from tests.acceptance.conftest import target

__all__ = ["target"]
