"""What a vendor's settings say is what it does: modes, operations, limits, secrets, and settings that mean nothing."""

from pathlib import Path
from typing import Any

import pytest

from relay.batches import Delivered, Misconfigured, Quota, Unauthorized
from relay.demo.sim_readers import NOT_THERE
from relay.events import OPT_OUTS, Operation
from relay.settings import Account, Login, Settings
from relay.vendors import check
from relay.vendors.bme_judging import SAME_MESSAGE_ROWS_MIN
from relay.vendors.bme_records import keeps_records
from tests.conformance.candidates import CANDIDATES, Candidate, secrets_of
from tests.conformance.uploading import uploading

EVERYWHERE = {
    "name", "login", "mode", "address", "columns", "flush_after_s", "flush_opt_outs_after_s", "unencodable",
    "operations",
}  # fmt: skip
"""An account's settings that mean something at every vendor."""

SOMEWHERE: dict[str, object] = {"group_id": 7, "step_plan_id": 9, "delete_error_records": True}
"""Those that do not, with a value."""


def _refused(login: Login, account: Account) -> set[str]:
    """Name the account's settings that are a mistake."""
    whole = Settings.model_construct(sources={}, logins={login.name: login}, accounts={account.name: account})
    return {problem.field.rpartition(".")[2] for problem in check(whole)}


def _form(candidate: Candidate, login: Login, to: Account, operation: Operation) -> tuple[object, ...]:
    """Give all that tells an upload from another but its lines."""
    adapter = candidate.adapter
    form = adapter.upload_form(login, to, operation, "canary-token" if adapter.needs_token else None)
    constants = [(h, c.constant) for h, c in adapter.columns(login, to, operation).items() if c.type == "constant"]
    return form.path, form.fields, tuple(constants)


def test_every_setting_of_an_account_has_a_place() -> None:
    """A setting that not every vendor knows is tried at all of them."""
    assert Account.model_fields.keys() == EVERYWHERE | SOMEWHERE.keys()


@pytest.mark.parametrize("vendor", CANDIDATES)
@pytest.mark.parametrize("name", SOMEWHERE)
def test_a_setting_that_means_nothing_is_a_mistake(vendor: str, name: str) -> None:
    """Who sets a group where there are none is told so at start, and does not mail everybody."""
    candidate = CANDIDATES[vendor]
    login = candidate.login()
    without = candidate.to(login, **dict.fromkeys(SOMEWHERE.keys() - {"delete_error_records"}))
    with_it = without.model_copy(update={name: SOMEWHERE[name]})
    means = _form(candidate, login, with_it, Operation.UPSERT) != _form(candidate, login, without, Operation.UPSERT)
    if name == "delete_error_records":
        means = keeps_records(login)
    assert name not in _refused(login, without)
    assert (name in _refused(login, with_it)) != means


@pytest.mark.parametrize("vendor", CANDIDATES)
def test_each_mode_and_operation_is_another_upload(vendor: str) -> None:
    """What the login's model says the vendor can do is told apart at the vendor."""
    candidate = CANDIDATES[vendor]
    login = candidate.login()
    to = candidate.to(login)
    modes = {_form(candidate, login, to.model_copy(update={"mode": m}), Operation.UPSERT) for m in login.modes}
    operations = {_form(candidate, login, to, operation) for operation in map(Operation, login.operations)}
    assert len(modes) == len(login.modes)
    assert len(operations) == len(login.operations)
    assert to.mode in login.modes


@pytest.mark.parametrize("vendor", CANDIDATES)
def test_what_every_login_has(vendor: str) -> None:
    """Data and an opt-out, a limit for files, a time to wait for more, and what a day of calls comes to."""
    candidate = CANDIDATES[vendor]
    login = candidate.login()
    assert Operation.UPSERT in login.operations
    assert login.operations & OPT_OUTS
    assert login.file_bytes_max > 0
    assert login.flush_after_s >= login.flush_opt_outs_after_s
    assert (login.calls_per_day is None) == (candidate.spent is None)
    assert bool(login.token_lasts_s) == candidate.adapter.needs_token
    if login.calls_per_day:
        files = 86_400 / login.flush_after_s + 86_400 / login.flush_opt_outs_after_s
        assert files <= login.calls_per_day, "one account with one kind of opt-out makes no more files than that"


SECRETS = [(vendor, name) for vendor, candidate in CANDIDATES.items() for name in secrets_of(candidate.login())]


@pytest.mark.parametrize(("vendor", "name"), SECRETS)
async def test_a_wrong_secret_pauses_the_lane(vendor: str, name: str, tmp_path: Path) -> None:
    """However the vendor says so: trying on could lock the contract."""
    wrong: dict[str, Any] = {name: "canary-wrong"}
    async with uploading(CANDIDATES[vendor], tmp_path, **wrong) as up:
        assert isinstance((await up.load()).outcome, Unauthorized)


@pytest.mark.parametrize("vendor", [vendor for vendor, candidate in CANDIDATES.items() if candidate.spent])
async def test_a_day_whose_calls_are_spent(vendor: str, tmp_path: Path) -> None:
    """The lane waits for the next day; nothing is burnt, and nobody has to act."""
    spent = CANDIDATES[vendor].spent
    assert spent
    async with uploading(CANDIDATES[vendor], tmp_path, sim=spent()) as up:
        assert isinstance((await up.load()).outcome, Quota)


@pytest.mark.parametrize("vendor", CANDIDATES)
@pytest.mark.parametrize("operation", [Operation.STOP, Operation.DELETE])
async def test_an_opt_out_of_somebody_who_is_not_there(vendor: str, operation: Operation, tmp_path: Path) -> None:
    """It has what it wanted: no rejection, where the message is known, and nobody is there afterwards."""
    candidate = CANDIDATES[vendor]
    async with uploading(candidate, tmp_path, unknown_address_messages=[NOT_THERE]) as up:
        outcome = (await up.load(operation)).outcome
        assert isinstance(outcome, candidate.confirms)
        assert not getattr(outcome, "rejections", ())
        assert await up.mailable() == {}


@pytest.mark.parametrize("vendor", CANDIDATES)
async def test_data_of_somebody_who_is_not_there_is_refused(vendor: str, tmp_path: Path) -> None:
    """The same message for a line of data is a rejection, where lines are told; a customer in it stays in it."""
    candidate = CANDIDATES[vendor]
    async with uploading(candidate, tmp_path, unknown_address_messages=[NOT_THERE]) as up:
        up.sim.faults.arm({"fault": "reject_lines", "addresses": ["c1@example.jp"], "message": f"c1@ {NOT_THERE}"})
        uploaded = await up.load()
    assert isinstance(uploaded.outcome, candidate.confirms)
    if isinstance(uploaded.outcome, Delivered):
        assert [(one.line, one.message) for one in uploaded.outcome.rejections] == [(3, f"c1@ {NOT_THERE}")]
    assert "c1@" not in uploaded.outcome.reason + uploaded.excerpt


@pytest.mark.parametrize("vendor", CANDIDATES)
async def test_a_column_that_the_vendor_does_not_know(vendor: str, tmp_path: Path) -> None:
    """A mistake in the settings rejects no customer: either the vendor ignores the column, or the lane pauses."""
    candidate = CANDIDATES[vendor]
    async with uploading(candidate, tmp_path, rows=SAME_MESSAGE_ROWS_MIN, columns={"知らない項目": "name"}) as up:
        outcome = (await up.load()).outcome
    assert isinstance(outcome, (candidate.confirms, Misconfigured))
    assert not getattr(outcome, "rejections", ())
