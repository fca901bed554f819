"""The alerts that are shipped: Prometheus's own tool takes them, and they name metrics that are there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "resource" / "prometheus"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool not found: install Debian's package prometheus")
@pytest.mark.parametrize(("subject", "file"), [("check", "alerts.yml"), ("test", "alerts_test.yml")])
def test_promtool_accepts(subject: str, file: str) -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, subject, "rules", RULES / file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_in_a_rule_is_documented() -> None:
    expressions = re.findall(r"expr: (?:>-\n)?((?:.+\n)(?: {12,}.+\n)*)", (RULES / "alerts.yml").read_text())
    used = {name for text in expressions for name in re.findall(r"\bkuueri_\w+", text)}
    assert len(used) > 10
    documented = set(re.findall(r"^\| `(kuueri_\w+)`", OPERATIONS, re.MULTILINE))
    assert {name.removesuffix("_bucket") for name in used} <= documented


def test_every_alert_is_documented() -> None:
    alerts = re.findall(r"- alert: (\w+)", (RULES / "alerts.yml").read_text())
    assert re.findall(r"^\| `(Kuueri\w+)`", OPERATIONS, re.MULTILINE) == alerts
