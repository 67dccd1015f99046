"""Signatures that any Standard Webhooks library verifies."""

from __future__ import annotations

import base64

import pytest

from stillhere.server.webhooks.signature import keys_of, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_message_is_signed_as_the_reference_libraries_sign_it() -> None:
    # made with the Python library of the Standard Webhooks project, version 1.1.0
    signature = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', keys_of(SECRET))
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_replaced_both_sign() -> None:
    other = "whsec_" + base64.b64encode(b"n" * 32).decode()
    both = sign("m", 1, b"{}", keys_of(f"{other} {SECRET}"))
    assert both.split(" ") == [sign("m", 1, b"{}", keys_of(secret)) for secret in (other, SECRET)]


def test_another_text_is_a_key_by_its_bytes() -> None:
    assert keys_of("é" * 16) == ("é".encode() * 16,)


@pytest.mark.parametrize("change", [("n", 1, b"{}"), ("m", 2, b"{}"), ("m", 1, b"{ }")])
def test_a_signature_covers_id_time_and_body(change: tuple[str, int, bytes]) -> None:
    assert sign(*change, keys_of(SECRET)) != sign("m", 1, b"{}", keys_of(SECRET))


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("short-canary", "has 12 bytes; it needs at least 32"),
        ("whsec_canary!canary!canary!canary!canary", "is not base64"),
        ("whsec_" + base64.b64encode(b"canary").decode(), "holds a key of 6 bytes"),
        ("whsec_" + base64.b64encode(b"canary" * 11).decode(), "holds a key of 66 bytes"),
        ("whsec_", "holds a key of 0 bytes"),
        (f"{SECRET} canary-canary-canary-canary-canary", "holds a key of 0 bytes"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        keys_of(secret)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None
