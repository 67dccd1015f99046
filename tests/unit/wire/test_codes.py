"""Close codes: with which cause a connection ends, and what a client does then."""

from __future__ import annotations

import pytest

from stillhere.core.words import FINAL_CAUSES, Cause
from stillhere.wire.codes import CAUSE_OF, Advice, CloseCode, ErrorCode, advice


def test_every_close_code_of_the_server_has_a_cause() -> None:
    assert set(CAUSE_OF) == set(CloseCode)


@pytest.mark.parametrize("code", CloseCode)
def test_only_a_departure_ends_without_a_window(code: CloseCode) -> None:
    departures = {CloseCode.NORMAL, CloseCode.KICKED, CloseCode.SUPERSEDED, CloseCode.FORBIDDEN_ORIGIN}
    assert (CAUSE_OF[code] in FINAL_CAUSES) is (code in departures)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (CloseCode.NORMAL, Cause.BYE),
        (CloseCode.SERVICE_RESTART, Cause.NODE_DRAIN),
        (CloseCode.UNAUTHORIZED, Cause.EXPIRED),
        (CloseCode.KICKED, Cause.KICKED),
        (CloseCode.SUPERSEDED, Cause.SUPERSEDED),
        (CloseCode.SLOW_CONSUMER, Cause.SLOW_CONSUMER),
        (CloseCode.HEARTBEAT_LOST, Cause.HEARTBEAT_LOST),
        (CloseCode.INTERNAL, Cause.ABNORMAL),
    ],
)
def test_a_close_code_stands_for_its_cause(code: CloseCode, cause: Cause) -> None:
    assert CAUSE_OF[code] is cause


@pytest.mark.parametrize(
    ("codes", "what"),
    [
        (range(4000, 4100), Advice.STOP),
        (range(4100, 4200), Advice.BACK_OFF),
        (range(4200, 4300), Advice.SOON),
        ((1001, 1006, 1011, 1012, 1013), Advice.SOON),
        ((1000, 1005, 1002, 3000, 3999, 4900), Advice.SOON),
    ],
    ids=["4000-4099", "4100-4199", "4200-4299", "the server goes", "others"],
)
def test_the_range_of_a_close_code_tells_a_client_what_to_do(codes: range | tuple[int, ...], what: Advice) -> None:
    assert {advice(code) for code in codes} == {what}


def test_1000_is_the_end_only_for_a_client_that_said_bye() -> None:
    assert advice(1000, said_bye=True) is Advice.STOP
    assert advice(1000) is Advice.SOON
    assert advice(1006, said_bye=True) is Advice.SOON


def test_the_error_codes_are_those_of_the_protocol() -> None:
    told = "bad_request unauthorized forbidden too_many rate_limited too_large unavailable internal"
    assert [code.value for code in ErrorCode] == told.split()
