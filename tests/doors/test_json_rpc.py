"""Refusals of headrace as errors of JSON-RPC."""

import pytest

from headrace.admission_errors import RateLimited, ReadOnly
from headrace.auth.handler_errors import RefusedByHandler
from headrace.doors.json_rpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    NOT_ADMITTED,
    PARSE_ERROR,
    as_rpc_error,
)
from headrace.errors import (
    CallerShareUsed,
    InvalidRequest,
    MalformedJSON,
    ThreadNotFound,
    TooManyQueuedRuns,
    Unauthenticated,
)
from headrace.unavailable_errors import Draining


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (MalformedJSON(), PARSE_ERROR),
        (Unauthenticated(), NOT_ADMITTED),
        (ReadOnly(), NOT_ADMITTED),
        (InvalidRequest(), INVALID_PARAMS),
        (ThreadNotFound(), INVALID_PARAMS),
        (Draining(), INTERNAL_ERROR),
        # The same call may be made again later: its parameters are good.
        (RateLimited(), INTERNAL_ERROR),
        (CallerShareUsed(), INTERNAL_ERROR),
        (TooManyQueuedRuns(), INTERNAL_ERROR),
        (RefusedByHandler(401, "no", {}), NOT_ADMITTED),
        (RefusedByHandler(409, "no", {}), INVALID_PARAMS),
        (RefusedByHandler(429, "later", {}), INTERNAL_ERROR),
    ],
)
def test_the_number_says_whether_the_parameters_are_wrong(error, number):
    told = as_rpc_error(error)
    assert (told.number, told.data) == (number, {"code": error.code})
