"""What /metrics promises: names with units, bounded labels, every series at zero, a histogram that counts in bulk."""

import random
import re
from bisect import bisect_left
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import Metric

from relay.metrics import ACCOUNTS_MAX, LANE_STATES, OTHER, BulkHistogram, Metrics
from relay.settings import Process, Settings
from tests.unit.vendors.made import bme_login, haihai_login

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
UNITS = ("_seconds", "_bytes", "_calls", "_events", "_requests", "_letters", "_connections", "_characters")
"""What a metric is counted in, as its name says; what is counted by a metric's own noun needs no more."""

NOUNS = {
    "relay_append_batch_size": "events in one append",
    "relay_connections": "connections",
    "relay_opt_outs_unresolved": "opt-outs",
    "relay_accounts_without_settings": "accounts",
    "relay_conservation_violations": "events and batches",
    "relay_lanes": "logins",
    "relay_database_connections_max": "connections",
}
YES_OR_NO = {"relay_breaker_open", "relay_database_up", "relay_lane_paused", "relay_ready", "relay_role"}
YES_OR_NO |= {"relay_settings_refused"}


def settings(accounts: int = 3) -> Settings:
    """Settings of two vendors with so many accounts, by turns."""
    logins = {"hai": haihai_login(name="hai"), "blast": bme_login(name="blast")}
    columns = {"E-Mail": "email"}
    made = {f"a{n}": {"login": ("hai", "blast")[n % 2], "columns": columns} for n in range(accounts)}
    return Settings.model_validate(
        {"sources": {"crm": {"bearer_tokens": ["t" * 20], "accounts": ["a0"]}}, "logins": logins, "accounts": made}
    )


@pytest.fixture
def metrics() -> Metrics:
    """Metrics as the service makes them."""
    made = Metrics()
    made.create_at_zero(settings(), ["https://api.example.com"])
    return made


def families(metrics: Metrics) -> list[Metric]:
    """Return relay's own metrics."""
    return [family for family in metrics.registry.collect() if family.name.startswith("relay_")]


def test_names_carry_units(metrics: Metrics) -> None:
    """Durations are seconds, sizes bytes, never milli or kilo, and a counter ends in `_total`, as Prometheus wants."""
    for family in families(metrics):
        if family.type == "counter":
            assert {sample.name for sample in family.samples} == {f"{family.name}_total"}
        elif family.name not in YES_OR_NO and family.name not in NOUNS and family.type != "info":
            assert family.name.endswith(UNITS), family.name
        assert not re.search(r"_(ms|millis|minutes|hours|days|kb|mb|percent|count|sum|bucket)(_|$)", family.name)


def test_help_says_the_unit(metrics: Metrics) -> None:
    """Each has a sentence, which names the seconds, bytes or calls that it counts, or says what 1 means."""
    for family in families(metrics):
        assert re.fullmatch(r"[A-Z0-9r].+\.", family.documentation), family.documentation
        for unit in ("seconds", "bytes", "calls"):
            if re.search(rf"_{unit}(_total)?$", family.name):
                assert unit in family.documentation.lower(), family.name
        if family.name in YES_OR_NO:
            assert family.documentation.startswith("1 "), family.name


def test_accounts_stand_on_gauges_only(metrics: Metrics) -> None:
    """Counters and histograms would have many more series for each account, the latter one for each bucket."""
    by_account = {
        family.name: family.type for family in families(metrics) if any("account" in s.labels for s in family.samples)
    }
    assert set(by_account.values()) == {"gauge", "info"}
    assert set(by_account) == {
        "relay_pending_events",
        "relay_oldest_unsettled_seconds",
        "relay_flush_after_seconds",
        "relay_dead_letters",
        "relay_conservation_violations",
        "relay_account",
    }


def test_every_series_exists_at_zero(metrics: Metrics) -> None:
    """An alert sees the first increase; only when a certificate expires or a secret was changed is not yet known."""
    empty = {family.name for family in families(metrics) if not family.samples}
    assert empty == {"relay_certificate_expiry_seconds", "relay_secret_age_seconds", *QUOTAS}
    for family in families(metrics):
        if family.type != "info" and family.name != "relay_database_connections":
            assert {sample.value for sample in family.samples} <= {0.0}, family.name
    lanes = {tuple(s.labels.values()) for f in families(metrics) if f.name == "relay_lanes" for s in f.samples}
    assert lanes == {(state, reason) for state, reasons in LANE_STATES.items() for reason in reasons}
    value = metrics.registry.get_sample_value
    for vendor in ("haihai", "blastmail"):
        assert value("relay_events_total", {"vendor": vendor, "operation": "stop"}) == 0
        assert value("relay_confirmed_seconds_count", {"vendor": vendor, "operation": "ban"}) == 0
        assert value("relay_stage_seconds_count", {"vendor": vendor, "stage": "waiting"}) == 0
    assert value("relay_events_total", {"vendor": "blaynmail", "operation": "stop"}) is None, "nobody has a login there"
    assert value("relay_acts_total", {"act": "retry"}) == 0


QUOTAS = {f"relay_quota_{which}_calls" for which in ("day", "left", "kept")}
"""Not every vendor counts calls: a login without a quota has none of these."""


def test_no_series_tells_when_it_was_created(metrics: Metrics) -> None:
    """`_created` would double each counter, and Prometheus has no use for it."""
    assert b"_created" not in generate_latest(metrics.registry)


def test_accounts_beyond_the_limit_share_a_label() -> None:
    """Of 300 accounts the first 200 of the settings have series of their own, all others and unknown ones share one."""
    metrics = Metrics()
    metrics.create_at_zero(settings(300), accounts_max=ACCOUNTS_MAX)
    labels = [metrics.account(f"a{n}") for n in range(300)]
    assert labels[:200] == [f"a{n}" for n in range(200)]
    assert labels[200:] == [OTHER] * 100
    assert metrics.account("gone from the settings") == OTHER
    pending, info = (labelled(metrics, name) for name in ("relay_pending_events", "relay_account"))
    assert pending == [*labels[:200], OTHER]
    assert info == labels[:200], "all others have no one login"
    assert metrics.vendor("a299") == "blastmail", "vendors are known whatever the limit"
    assert metrics.vendor("gone from the settings") == OTHER


def labelled(metrics: Metrics, name: str) -> list[str]:
    """Return the accounts of a family's series."""
    return [s.labels["account"] for family in families(metrics) if family.name == name for s in family.samples]


def test_each_account_tells_its_login(metrics: Metrics) -> None:
    """What is known by login and what is known by account can be joined."""
    value = metrics.registry.get_sample_value
    assert value("relay_account_info", {"account": "a0", "login": "hai", "vendor": "haihai"}) == 1
    assert value("relay_account_info", {"account": "a1", "login": "blast", "vendor": "blastmail"}) == 1


def test_nobody_shares_a_label_below_the_limit(metrics: Metrics) -> None:
    """The label of all others is not there where there are none."""
    assert OTHER not in {s.labels.get("account") for family in families(metrics) for s in family.samples}


def test_the_limit_is_a_setting() -> None:
    """With none, no account has series of its own; the default is what the metrics take, too."""
    metrics = Metrics()
    metrics.create_at_zero(settings(), accounts_max=0)
    assert metrics.account("a0") == OTHER
    assert Process.model_fields["metrics_accounts_max"].default == ACCOUNTS_MAX


def test_no_account_can_be_called_like_the_others() -> None:
    """A name in brackets is refused."""
    with pytest.raises(ValueError, match="accounts"):
        Settings.model_validate({"accounts": {OTHER: {"login": "hai", "columns": {"E-Mail": "email"}}}})


def test_readme_says_what_each_metric_is(metrics: Metrics) -> None:
    """Type and labels are as the table says."""
    rows = dict(re.findall(r"^\| `(relay_\w+)` \| (\w+ \| .*?) \|", README, re.MULTILINE))
    for family in families(metrics):
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        kind, _, told = rows[name].partition(" | ")
        assert kind == {"info": "gauge"}.get(family.type, family.type), name
        if family.samples:
            assert set(re.findall(r"`(\w+)`", told)) == labels, name
    assert len(rows) == len(families(metrics))


# -- counting in bulk ------------------------------------------------------------------------------------------------

BOUNDS = (1, 5, 60, 3600)


def bulk() -> tuple[BulkHistogram, CollectorRegistry]:
    """Make an empty one."""
    registry = CollectorRegistry()
    return BulkHistogram("waited_seconds", "Seconds waited.", ["who"], bounds=BOUNDS, registry=registry), registry


def test_a_bulk_histogram_is_like_any_other() -> None:
    """What it shows is, to the byte, what Prometheus's own client shows of the same observations."""
    ours, registry = bulk()
    theirs_registry = CollectorRegistry()
    theirs = Histogram("waited_seconds", "Seconds waited.", ["who"], buckets=BOUNDS, registry=theirs_registry)
    made = random.Random(7)
    seconds = [*BOUNDS, 0, 3601, *(made.randrange(8000) / 2 for _ in range(500))]  # halves sum up without rounding
    for second in seconds:
        theirs.labels("a").observe(second)
        ours.add(["a"], [bisect_left(BOUNDS, second) == bucket for bucket in range(len(BOUNDS) + 1)], second)
    assert generate_latest(registry) == generate_latest(theirs_registry)


def test_counts_are_added_by_bucket() -> None:
    """Counts and sum are exact, whether they come one by one or 200,000 at once."""
    ours, registry = bulk()
    ours.at_zero("a")
    assert registry.get_sample_value("waited_seconds_count", {"who": "a"}) == 0
    ours.add(["a"], [100_000, 0, 99_998, 1, 1], 123_456.5)
    ours.add(["a"], [1, 0, 0, 0, 0], 0.5)
    value = registry.get_sample_value
    assert value("waited_seconds_count", {"who": "a"}) == 200_001
    assert value("waited_seconds_sum", {"who": "a"}) == 123_457
    told = {
        bound: value("waited_seconds_bucket", {"who": "a", "le": bound}) for bound in ("1.0", "5.0", "60.0", "+Inf")
    }
    assert told == {"1.0": 100_001, "5.0": 100_001, "60.0": 199_999, "+Inf": 200_001}
    with pytest.raises(ValueError, match="shorter"):
        ours.add(["a"], [1, 2], 3)


def test_a_name_is_given_once() -> None:
    """A second histogram of the same name is refused, as with any other metric."""
    _, registry = bulk()
    with pytest.raises(ValueError, match="Duplicated"):
        BulkHistogram("waited_seconds", "Seconds waited.", [], bounds=BOUNDS, registry=registry)
