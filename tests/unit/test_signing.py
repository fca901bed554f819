import base64
import json
from time import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from kuueri_grpc.dispatcher.signing import sign

NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"x" * 32).decode()
BODY = b'{"order": 1}'


def now_s() -> int:
    """The verifier compares with the host's clock."""
    return int(time())


def test_the_standards_own_library_verifies_it() -> None:
    headers = dict(sign("task-1_0", now_s(), BODY, [NEW]))

    assert Webhook(NEW).verify(BODY, headers) == json.loads(BODY)


def test_during_a_rotation_either_secret_verifies() -> None:
    headers = dict(sign("task-1_0", now_s(), BODY, [NEW, OLD]))

    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (NEW, OLD):
        assert Webhook(secret).verify(BODY, headers) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(BODY, headers)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_a_change_of_anything_signed_is_noticed(changed: str) -> None:
    headers = dict(sign("task-1_0", now_s(), BODY, [NEW]))
    body = BODY
    if changed == "body":
        body = b'{"order": 2}'
    elif changed == "webhook-id":
        headers[changed] = "task-2_0"
    else:
        headers[changed] = str(now_s() + 1)

    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body, headers)


def test_known_answer() -> None:
    # From the standard's own test suites.
    headers = dict(
        sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b'{"test": 2432232314}',
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        )
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_body_that_is_not_text_is_signed_as_it_is() -> None:
    body = bytes(range(256))
    one = dict(sign("task-1_0", 1, body, [NEW]))
    two = dict(sign("task-1_0", 1, body[:-1] + b"\x00", [NEW]))

    assert one["webhook-signature"] != two["webhook-signature"]


def test_a_malformed_secret_is_not_used_as_something_else() -> None:
    with pytest.raises(ValueError, match="base64"):
        sign("task-1_0", 1, b"", ["whsec_not base64!"])
