"""Texts that must not come out, and where they were looked for."""

import base64
import secrets
from collections import defaultdict
from collections.abc import Iterator

REQUEST, CREDENTIAL, DAMAGE = "request", "credential", "damage"

#: What may show a kind of secret, and why. Everything else may not.
EXEMPT = {
    ("GetTask", REQUEST): "its owner reads what it has subscribed",
    ("ListTasks", REQUEST): "as GetTask",
    ("Watch snapshot", REQUEST): "as GetTask",
    ("Subscribe's answer", REQUEST): "as GetTask",
    ("Register's answer", CREDENTIAL): "token and signing secret are shown this once",
    ("RotateToken's answer", CREDENTIAL): "as above",
    ("RotateSigningSecret's answer", CREDENTIAL): "as above",
    ("the store's files", DAMAGE): "that is where the test has put it",
    ("kuueri keys generate", CREDENTIAL): "the key is made to be shown, once",
}


class Canaries:
    """Makes secrets that are found again in whatever they leak into."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[str, str]] = {}
        self._found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self.surfaces: list[str] = []

    def request(self, what: str) -> str:
        """Return a secret that is part of what a task sends."""
        return self._new(what, REQUEST)

    def credential(self, what: str) -> str:
        """Return a secret that opens something."""
        return self._new(what, CREDENTIAL)

    def damage(self, what: str) -> str:
        """Return what is put in the place of a record."""
        return self._new(what, DAMAGE)

    def watch_for(self, what: str, text: str) -> str:
        """Take a credential that was made elsewhere."""
        self._kinds[text] = (what, CREDENTIAL)
        return text

    def _new(self, what: str, kind: str) -> str:
        text = f"canary{secrets.token_hex(13)}"
        self._kinds[text] = (what, kind)
        return text

    def look(self, surface: str, content: object) -> None:
        """Look for every secret in what came out somewhere: bytes, or anything as text."""
        self.surfaces.append(surface)
        haystack = content if isinstance(content, bytes) else str(content).encode()
        for text, (what, kind) in self._kinds.items():
            if any(form in haystack for form in _forms(text.encode())):
                self._found[surface, kind].add(what)

    def leaks(self) -> dict[str, set[str]]:
        """Return what was found where it may not be: surface -> secrets."""
        return {
            surface: found for (surface, kind), found in self._found.items() if (surface, kind) not in EXEMPT
        }

    def needed_exemptions(self) -> set[tuple[str, str]]:
        """Return the exemptions that something was found under: there the search finds what is there."""
        return self._found.keys() & EXEMPT.keys()


def _forms(text: bytes) -> Iterator[bytes]:
    """Yield how a text may be spelled inside another one: as it is, in hexadecimal, in base64."""
    yield text
    yield text.hex().encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + text)
        # Characters that have bits of the text alone.
        yield encoded[(before * 8 + 5) // 6 : (before + len(text)) * 8 // 6]
