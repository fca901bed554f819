"""The server, the project and the target of the acceptance tests."""

from tests.acceptance.conftest import channel, project, server, target

__all__ = ["channel", "project", "server", "target"]
