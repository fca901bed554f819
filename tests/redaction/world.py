"""A server whose every secret is a canary, and what comes out of it."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from kuueri_grpc.crypto.keyring import EncryptionKey
from kuueri_grpc.pb import project_service_pb2 as projects_pb
from tests.acceptance.caller import Project, connected, new_email
from tests.acceptance.command import run
from tests.acceptance.served import LOOPBACK, Server
from tests.outages.valkeys import Valkey
from tests.redaction.canaries import Canaries
from tests.store import raw
from tests.supervision.processes import descendants, proc

_ADMIN = re.compile(r"metrics and health are on ([\d.]+:\d+)")


class World:
    """The store, the server, one project."""

    def __init__(self, directory: Path, log_format: str) -> None:
        self.canaries = canaries = Canaries()
        self.directory = directory
        self.password = canaries.credential("the store's password")
        self.admin_token = canaries.credential("the admin token")
        self.valkey = Valkey(directory / "store", requirepass=self.password, appendfsync="always")
        key = EncryptionKey("key1", canaries.credential("the encryption key").encode())
        self.settings: dict[str, Any] = {
            "LEVEL": "DEBUG",
            "LOG_FORMAT": log_format,
            "ADMIN_TOKEN": self.admin_token,
            "WORKERS": 2,
            "SERVICE": {"CRYPTO": {"KEY": [key.reveal()]}, "LEASE_MS": 3_000},
            "DATABASE": {
                "PARTITIONS": 8,
                "REDIS": {"URL": f"redis://:{self.password}@127.0.0.1:{self.valkey.port}"},
            },
        }
        self.config = self.write("config.json", self.settings)
        self.server = Server(directory, *LOOPBACK, "--admin-port", "0", "--config", str(self.config))
        self.project: Project

    def write(self, name: str, settings: object) -> Path:
        path = self.directory / name
        path.write_text(json.dumps(settings))
        return path

    async def register(self, channel: grpc.aio.Channel) -> None:
        """Make the project; its token and signing secret are canaries from now on."""
        project = Project(channel, "", "", "")
        made = await project.projects.Register(
            projects_pb.RegisterRequest(email=new_email()),
            metadata=(("authorization", f"Bearer {self.admin_token}"),),
        )
        self.take("the token", made.token)
        self.take("the signing secret", made.signing_secret)
        self.canaries.look("Register's answer", made.SerializeToString())
        self.project = Project(channel, made.project.project_id, made.token, made.signing_secret)

    def take(self, what: str, credential: str) -> None:
        """Watch for the secret part of a token or a signing secret."""
        parts = credential.split("_")
        self.canaries.watch_for(what, parts[2] if credential.startswith("kq_") else parts[1].rstrip("="))

    async def fails(self, surface: str, call: Awaitable[Any] | AsyncIterator[Any]) -> grpc.StatusCode:
        """Make a call that must fail; look at all that its caller is told."""
        try:
            if isinstance(call, AsyncIterator):
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            self.canaries.look(surface, error.details())
            for _, value in error.trailing_metadata() or ():
                self.canaries.look(surface, value)
            return error.code()
        raise AssertionError(f"{surface}: no error came")

    def answer(self, surface: str, message: Message) -> None:
        """Look at an answer."""
        self.canaries.look(surface, message.SerializeToString())

    async def command(self, surface: str, *arguments: str, code: int = 0) -> None:
        """Run `kuueri`; look at what it prints."""
        ended = await run("kuueri", *arguments, cwd=self.directory)
        assert ended.exit_code == code, ended
        self.canaries.look(surface, ended.stdout + ended.stderr)

    async def generate_key(self) -> None:
        ended = await run("kuueri", "keys", "generate", cwd=self.directory)
        self.canaries.watch_for("a generated key", ended.stdout.strip().partition(":")[2].rstrip("="))
        self.canaries.look("kuueri keys generate", ended.stdout)

    async def admin(self, path: str) -> None:
        """Ask the admin endpoint."""
        host, _, port = self.admin_address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        content = await reader.read()
        writer.close()
        assert content.startswith(b"HTTP/1.1 ")
        self.canaries.look(path, content)

    @property
    def admin_address(self) -> str:
        found = _ADMIN.search(self.server.log)
        assert found is not None, self.server.log
        return found[1]

    def processes(self) -> None:
        """Look at what the system shows of the server's processes."""
        if not sys.platform.startswith("linux"):
            return
        assert self.server._process is not None
        pid = self.server._process._process.pid
        family = [pid, *descendants(pid)]
        assert len(family) == 3
        for member in family:
            for name in ("cmdline", "environ"):
                self.canaries.look(f"/proc/{name}", proc(member, name))

    def store(self) -> None:
        """Look at the store: its data, and the files in its directory."""
        url = f"redis://:{self.password}@127.0.0.1:{self.valkey.port}"
        self.canaries.look("the store's data", raw.read(url))
        for path in self.valkey.directory.rglob("*"):
            if path.is_file():
                self.canaries.look("the store's files", path.read_bytes())

    def end(self) -> None:
        """Stop the server in order; faults were logged, as they should be."""
        process, self.server._process = self.server._process, None
        if process is not None and process.running:
            process.send(signal.SIGTERM)
            assert process.wait() == 0, self.server.log
        self.canaries.look("the log", self.server.log)


@asynccontextmanager
async def world(directory: Path, log_format: str) -> AsyncIterator[tuple[World, grpc.aio.Channel]]:
    """Run a world to the end of the block."""
    made = World(directory, log_format)
    await made.valkey.start()
    try:
        await asyncio.to_thread(made.server.start)
        async with connected(made.server.address) as channel:
            await made.register(channel)
            yield made, channel
    finally:
        await asyncio.to_thread(made.end)
        made.valkey.stop()
