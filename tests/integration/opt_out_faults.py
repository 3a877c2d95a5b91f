"""What the simulated vendors are told to do wrong in the model of opt-outs."""

from collections.abc import Mapping, Sequence

from tests.integration.opt_out_case import ADDRESSES

BAD_DATA = '{"error":{"message":"Failure_Data is incorrect"}}'
SHARED_FAULTS: Sequence[dict[str, object]] = (
    {"fault": "lost_reply"},
    {"fault": "lost_reply", "applied": False},
    {"fault": "status", "status": 503},
    {"fault": "status", "status": 500, "applied": True},
    {"fault": "reset_after_body"},
    {"fault": "reset_after_body", "applied": True},
    {"fault": "html"},
    {"fault": "retry_after"},
    {"fault": "too_large", "n_bytes": 50, "times": 2},
    {"fault": "status", "status": 401, "times": 2},
    {"fault": "status", "status": 404},
)
FAULTS: Mapping[str, Sequence[dict[str, object]]] = {
    "blastmail": (
        *SHARED_FAULTS,
        {"fault": "busy", "times": 2},
        {"fault": "expired_token"},
        {"fault": "wrong_counts"},
        {"fault": "wrong_counts", "success_by": -1, "failure_by": 1},
        {"fault": "wrong_lines", "times": 3},
        {"fault": "xml"},
        {"fault": "reject_lines", "addresses": [ADDRESSES[0]], "times": 1},
        {"fault": "reject_lines", "every": 1, "times": 1},
        {"fault": "reject_lines", "every": 1, "times": 1, "operation": "update"},
        {"fault": "reject_lines", "every": 1, "times": 1, "operation": "delete"},
        {"fault": "refuse_file", "address": ADDRESSES[1], "times": 4},
        {"fault": "refuse_file", "address": ADDRESSES[0], "times": 3},
        {"fault": "status", "status": 400, "body": BAD_DATA, "times": 7},
        {"fault": "status", "on": "login", "status": 500},
        {"fault": "status", "on": "login", "status": 401},
    ),
    "配配メール": (
        *SHARED_FAULTS,
        {"fault": "code", "code": 81404},
        {"fault": "code", "code": 81401},
        {"fault": "code", "code": 81435},
    ),
}
"""By vendor. None of them makes 配配メール lose what it has accepted: nobody could know."""
