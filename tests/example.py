"""The example configuration, with its blanks filled as its user does."""

import json
from pathlib import Path

from tests.keys import KEYRING

EXAMPLE = Path(__file__).parents[1] / "resource/config/config.example.json"
PASSWORD = "correct horse"


def filled_example(directory: Path, **more: object) -> Path:
    """Write the example with a key and a password in their places; `more`: other top-level keys."""
    text = EXAMPLE.read_text()
    for blank, value in (("KEY", KEYRING.reveal()), ("PASSWORD", PASSWORD)):
        assert text.count(f'"{blank}": "replace-me"') == 1
        text = text.replace(f'"{blank}": "replace-me"', f'"{blank}": {json.dumps(value)}')
    assert "replace-me" not in text
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(text), **more}))
    return path
