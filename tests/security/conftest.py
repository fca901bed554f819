"""The server, the project and the target of the acceptance tests."""

from tests.acceptance.conftest import channel, project, server, target
from tests.service.conftest import edge, owner, stranger

__all__ = ["channel", "edge", "owner", "project", "server", "stranger", "target"]
