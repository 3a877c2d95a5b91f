"""Settings: all mistakes at once, each where the operator made it, and no secret's value in any message."""

import json
import re
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.errors import SettingsError
from relay.events import Operation
from relay.settings import BmeLogin, HaihaiLogin, Settings, database_url, load, process

EXAMPLE = """
[sources.crm]
signing_secrets = [{ env = "CRM_WEBHOOK_SECRET" }]
accounts = ["newsletter", "members"]

[logins.blast]
vendor = "blastmail"
username = "relay"
password = { env = "BLASTMAIL_PASSWORD" }
api_key = { file = "API_KEY_FILE" }

[logins.haihai]
vendor = "haihai"
base_url = "https://haihai.example.jp"
aid = 12
login_id = "relay"
transport_password = { env = "HAIHAI_PASSWORD" }

[accounts.newsletter]
login = "blast"

[accounts.newsletter.columns]
"E-Mail" = "email"
"氏名" = "name"
"生年月日" = { path = "birthday", type = "date" }

[accounts.members]
login = "haihai"
operations = { "customer.banned" = "stop", "customer.allowed" = "ignore" }
columns = { "mail" = "email", "rank" = { path = "rank", type = "choice", values = { "1" = "gold" } } }

[api.tokens.ops]
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
scopes = ["read", "operate"]
"""

ENV = {"CRM_WEBHOOK_SECRET": "s3cret-crm", "BLASTMAIL_PASSWORD": "s3cret-blast", "HAIHAI_PASSWORD": "s3cret-haihai"}
PROCESS = {"RELAY_DATABASE_URL": "postgresql://relay:s3cret@localhost/relay", "RELAY_SECRET_KEY": "s3cret-" + "k" * 16}


def read(directory: Path, text: str, env: Mapping[str, str] = ENV) -> Settings:
    """Load settings from a text."""
    key = directory / "api-key"
    key.write_text("s3cret-key\n", encoding="utf-8")
    path = directory / "relay.toml"
    path.write_text(text.replace("API_KEY_FILE", str(key)), encoding="utf-8")
    return load(path, env)


def problems(directory: Path, *changes: tuple[str, str], env: Mapping[str, str] = ENV) -> dict[str, str]:
    """Load the example with changes that break it; return the message for each path."""
    text = EXAMPLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(SettingsError) as caught:
        read(directory, text, env)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_the_example_loads(tmp_path: Path) -> None:
    """The whole file becomes models that know their names, with secrets from the environment and from files."""
    settings = read(tmp_path, EXAMPLE)
    blast, haihai = settings.logins["blast"], settings.logins["haihai"]
    assert isinstance(blast, BmeLogin)
    assert isinstance(haihai, HaihaiLogin)
    assert (blast.password.value, blast.api_key.value) == ("s3cret-blast", "s3cret-key")
    assert settings.sources["crm"].signing_secrets[0].value == "s3cret-crm"
    assert [settings.accounts[name].name for name in ("newsletter", "members")] == ["newsletter", "members"]
    assert settings.accounts["newsletter"].address_header == "E-Mail"
    assert settings.accounts["members"].operation("customer.banned") is Operation.STOP
    assert settings.accounts["members"].operation("customer.allowed") is None
    assert settings.api.tokens["ops"].name == "ops"
    assert "s3cret" not in repr(settings)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Mistakes of every kind and in every part come together, each with its path as written in the file."""
    found = problems(
        tmp_path,
        ('accounts = ["newsletter", "members"]', 'accounts = ["newsleter", "members", "members"]\norder_by = "chance"'),
        ('username = "relay"', "flush = 1"),
        ("aid = 12", 'aid = "twelve"'),
        ('login = "haihai"', 'login = "hiahai"'),
        ('type = "date"', 'type = "day"'),
        ('"customer.banned" = "stop"', '"customer.banned" = "halt"'),
        ('"read", "operate"', '"read", "write"'),
    )
    assert found.keys() == {
        "sources.crm.accounts",
        "sources.crm.order_by",
        "logins.blast.username",
        "logins.blast.flush",
        "logins.haihai.aid",
        "accounts.members.login",
        'accounts.members.operations."customer.banned"',
        'accounts.newsletter.columns."生年月日".type',
        "api.tokens.ops.scopes[1]",
    }
    assert found["logins.blast.username"] == "is missing"
    assert found["accounts.members.login"] == "there is no login `hiahai`; did you mean `haihai`?"
    assert found['accounts.members.operations."customer.banned"'].startswith("should be 'upsert', 'delete', 'stop'")


def test_several_mistakes_of_one_field_are_all_told(tmp_path: Path) -> None:
    """A source that names an unknown account and a known one twice hears of both."""
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, EXAMPLE.replace('["newsletter", "members"]', '["newsleter", "members", "members"]'))
    assert [str(problem) for problem in caught.value.problems] == [
        "sources.crm.accounts: there is no account `newsleter`; did you mean `newsletter`?",
        "sources.crm.accounts: names `members` 2 times",
    ]


@pytest.mark.parametrize(
    ("old", "new", "field", "message"),
    [
        ('username = "relay"', 'user_name = "relay"', "logins.blast.user_name", "is unknown; did you mean `username`?"),
        ('login_id = "relay"', 'loginid = "relay"', "logins.haihai.loginid", "is unknown; did you mean `login_id`?"),
        ('path = "rank"', 'pth = "rank"', "accounts.members.columns.rank.pth", "is unknown; did you mean `path`?"),
        (
            'login = "blast"',
            'login = "blast"\nflush_s = 1',
            "accounts.newsletter.flush_s",
            "did you mean `flush_after_s`?",
        ),
        ("[api.tokens.ops]", "[api.token.ops]", "api.token", "is unknown; did you mean `tokens`?"),
        ("[sources.crm]", "[source.x]\n[sources.crm]", "source", "is unknown; did you mean `sources`?"),
        ("scopes =", "xyz = 1\nscopes =", "api.tokens.ops.xyz", "is unknown; there are `scopes`, `sha256`"),
        ('login = "blast"', 'login = "blast"\nname = "x"', "accounts.newsletter.name", "the name is the table's own"),
        ("scopes =", 'name = "x"\nscopes =', "api.tokens.ops.name", "the name is the table's own"),
        ("blastmail", "blastmial", "logins.blast.vendor", "should be one of 'haihai', 'blastmail', 'blaynmail'"),
        ('vendor = "haihai"', "", "logins.haihai.vendor", "is missing"),
        (
            "https://haihai.example.jp",
            "haihai.example.jp",
            "logins.haihai.base_url",
            "should be an http:// or https://",
        ),
        ("[logins.blast]", "[logins.Blast]", "logins.Blast", "a name has up to 63 lower-case letters"),
        ("[sources.crm]", "[sources.relay]", "sources.relay", "is what relay calls itself"),
        (
            "[sources.crm]",
            '[sources.crm]\nplain = { id = { header = "X-{}" }, type = "t" }',
            "sources.crm.plain.id.header",
            "should be the name of a header",
        ),
        (
            "[sources.crm]",
            '[sources.crm]\nbody_signature = { header = "", secrets = ["s3cret"] }',
            "sources.crm.body_signature.header",
            "should be the name of a header",
        ),
        ("0000", "", "api.tokens.ops.sha256", "should be the SHA-256 of a token"),
        ('"E-Mail" = "email"', "", "accounts.newsletter", "exactly one column must have the path of the address"),
        (
            '"氏名" = "name"',
            '"氏名" = "name["',
            'accounts.newsletter.columns."氏名"',
            "neither a dotted path nor JMESPath",
        ),
        (
            '"氏名" = "name"',
            '"氏名" = "upper(name) || sort_by(a, &lower(b))"',
            'accounts.newsletter.columns."氏名"',
            "JMESPath has no function lower",
        ),
        ("aid = 12", f"aid = 12\nrows_max = {10**20}", "logins.haihai.rows_max", "less than or equal to"),
        (
            "aid = 12",
            f"aid = 12\nfile_bytes_limit = {10**20}",
            "logins.haihai.file_bytes_limit",
            "less than or equal to",
        ),
        ('"氏名"', '"𠮷"', "accounts.newsletter.columns", "has no Shift_JIS (CP932) form"),
        ('{ env = "HAIHAI_PASSWORD" }', "7", "logins.haihai.transport_password", 'expected { env = "NAME" }'),
        *(
            ("[sources.crm]", f"[sources.crm]\n{line}", f"sources.crm.{field}", message)
            for line, field, message in [
                ("networks = []", "networks", "needs at least one; leave it out to allow all"),
                ('networks = "10.0.0.0/8"', "networks", 'should be a list, as in ["…"]'),
                ("networks = [167772160]", "networks[0]", 'is no network, as "10.0.0.0/8"'),
                ('networks = ["::/0", "s3cret"]', "networks[1]", 'is no network, as "10.0.0.0/8"'),
                ('networks = ["fe80::%s3cret/64"]', "networks[0]", "is no network"),
                ('networks = ["10.0.0.0/33"]', "networks[0]", "is no network"),
                (
                    'networks = ["::1", "10.0.0.1/8"]',
                    "networks[1]",
                    "10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?",
                ),
                ("operations = []", "operations", "needs at least one"),
                ('operations = "upsert"', "operations", 'should be a list, as in ["…"]'),
                ("body_signature = 7", "body_signature", "should be a table"),
                ("plain = []", "plain", "should be a table"),
                ("types = 1", "types", "should be a table"),
                ('plain = { id = 7, type = "t" }', "plain.id", "expected a path into the body, or { header"),
                ('plain = { id = "[", type = "t" }', "plain.id", "JMESPath: Incomplete expression"),
                ('plain = { id = "a ]", type = "t" }', "plain.id", 'Parse error at column 2, token "]" (RBRACKET)'),
                ('plain = { id = "a.$", type = "t" }', "plain.id", "JMESPath: Unknown token $ at column 2"),
                (
                    'plain = { id = "i", type = "t", time_format = "unix" }',
                    "plain.time_format",
                    "has no effect without `time`",
                ),
                ("webhooks_per_s = 1e-310", "webhooks_per_s", "should be greater than or equal to 0.001"),
                ("webhooks_per_s = nan", "webhooks_per_s", "should be a finite number"),
                ("webhooks_burst = 5", "webhooks_burst", "has no effect without `webhooks_per_s`"),
            ]
        ),
        ('login = "blast"', 'login = "blast"\nflush_after_s = []', "accounts.newsletter.flush_after_s", "valid number"),
        ('"氏名" = "name"', '"氏名" = 7', 'accounts.newsletter.columns."氏名"', "should be a table"),
        ("BLASTMAIL_PASSWORD", "NO_SUCH", "logins.blast.password", "the environment has no variable NO_SUCH"),
        ("API_KEY_FILE", "/no/such", "logins.blast.api_key", "cannot read the file /no/such: FileNotFoundError"),
    ],
)
def test_each_mistake_says_where_and_what(tmp_path: Path, old: str, new: str, field: str, message: str) -> None:
    """The path is the one in the file, and the message says what was expected or probably meant."""
    found = problems(tmp_path, (old, new))
    assert message in found[field]
    assert "\n" not in found[field]


@pytest.mark.parametrize(
    "line",
    [
        'networks = ["0.0.0.0/0", "::/0", "192.0.2.1", "2001:db8::/32"]',
        'operations = ["delete"]',
        "webhooks_per_s = 0.001\nwebhooks_burst = 1",
        'plain = { id = "i", type = "t", time_format = "iso8601" }',
        'plain = { id = "i", type = "t", time = { header = "T" }, time_format = "unix" }',
        'without_address = "skip"',
    ],
)
def test_what_is_near_a_mistake_and_none(tmp_path: Path, line: str) -> None:
    """The rules refuse no more than they should: who writes that anywhere is allowed means it."""
    assert read(tmp_path, EXAMPLE.replace("[sources.crm]", f"[sources.crm]\n{line}")).sources.keys() == {"crm"}


_STRAY = "a secret may not begin or end with white space"
_EMPTY = "a secret may not be empty"


@pytest.mark.parametrize("kind", ["env", "file", "string"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3cret", None),
        ("s3cret\n", None),
        ("s3cret with blanks\r\n\n", None),
        ("", _EMPTY),
        ("\n", _EMPTY),
        (" \t\u3000", _EMPTY),
        (" s3cret", _STRAY),
        ("s3cret ", _STRAY),
        ("s3cret\t\n", _STRAY),
        ("\ns3cret", _STRAY),
        ("s3cret\u3000", _STRAY),
    ],
)
def test_white_space_around_secrets(tmp_path: Path, kind: str, text: str, expected: str | None) -> None:
    """Line ends behind a secret are left out, wherever it is; what else a header would never bring is a mistake."""
    (tmp_path / "secret").write_bytes(text.encode())
    given = {"file": str(tmp_path / "secret")} if kind == "file" else {"env": "STRAY"}
    written = json.dumps(text) if kind == "string" else f"{{ {kind} = {json.dumps(given[kind])} }}"
    changed = EXAMPLE.replace('{ env = "CRM_WEBHOOK_SECRET" }', written)
    env = {**ENV, "STRAY": text}
    if expected is None:
        assert read(tmp_path, changed, env).sources["crm"].signing_secrets[0].value == text.rstrip("\r\n")
        return
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, changed, env)
    assert [str(problem) for problem in caught.value.problems] == [f"sources.crm.signing_secrets[0]: {expected}"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[sources.crm]\naccounts = ["a"\n\n[logins.x]\n', "is not TOML: Unclosed array (at line 4, column 1)"),
        (b"[a]\n[a]\n", "is not TOML: Cannot declare ('a',) twice (at line 2, column 3)"),
        ("# 設定".encode("cp932"), "is not UTF-8"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    """What is no TOML is told with the file, line and column, without a traceback of its own."""
    path = tmp_path / "relay.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    assert [(p.field, p.message) for p in caught.value.problems] == [(str(path), message)]


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    """Who has no relay.toml learns of RELAY_CONFIG."""
    with pytest.raises(SettingsError, match=r"there is no such file; RELAY_CONFIG"):
        load(tmp_path / "relay.toml", {})


def test_an_empty_file_names_what_is_missing(tmp_path: Path) -> None:
    """Sources, logins and accounts must be there, and not empty."""
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, "[sources]\n")
    assert [str(p) for p in caught.value.problems] == [
        "accounts: is missing",
        "logins: is missing",
        "sources: needs at least one",
    ]


def test_inline_secrets_of_the_wrong_kind_are_not_quoted(tmp_path: Path) -> None:
    """A secret written where another kind of value belongs is refused without being repeated."""
    found = problems(
        tmp_path,
        ("aid = 12", 'aid = "s3cret-aid"'),
        ('{ env = "HAIHAI_PASSWORD" }', '{ enw = "s3cret-inline" }'),
        ('[{ env = "CRM_WEBHOOK_SECRET" }]', '"s3cret-crm"'),
    )
    assert found.keys() == {"logins.haihai.aid", "logins.haihai.transport_password", "sources.crm.signing_secrets"}


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Editors on Windows put one at the beginning."""
    assert read(tmp_path, "\ufeff" + EXAMPLE).accounts


# -- the environment -------------------------------------------------------------------------------------------------


def refused(env: Mapping[str, str]) -> dict[str, str]:
    """Read a process's settings that must be refused; return the message for each variable."""
    with pytest.raises(SettingsError) as caught:
        process(env)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_the_environment_has_defaults() -> None:
    """Only the database and the secret must be given."""
    found = process(PROCESS)
    assert (found.config, found.port, found.ops_port) == (Path("relay.toml"), 8080, 9090)
    assert (found.round_s, found.lease_s, found.uploads_max, found.body_bytes_max) == (1.0, 60.0, 100, 10_000_000)
    assert found.database_url.value == PROCESS["RELAY_DATABASE_URL"]
    assert found.keys.secret == PROCESS["RELAY_SECRET_KEY"].encode()
    assert "s3cret" not in repr(found)


def test_the_environment_is_read() -> None:
    """Each field is a variable with RELAY_ in front; an empty variable counts as not set."""
    given = {
        "RELAY_PORT": "8888",
        "RELAY_LOG_LEVEL": "DEBUG",
        "RELAY_SPOOL_DIR": "/data",
        "RELAY_HOST": "",
        "OTHER": "x",
    }
    found = process(PROCESS | given)
    assert (found.port, found.log_level, found.spool_dir, found.host) == (8888, "debug", Path("/data"), "0.0.0.0")  # noqa: S104


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    """Both secrets may be in files, without the newline at the end; giving one twice is a mistake."""
    (tmp_path / "url").write_text("postgresql://relay@localhost/relay\n", encoding="utf-8")
    (tmp_path / "key").write_text("k" * 16 + "\n", encoding="utf-8")
    files = {"RELAY_DATABASE_URL_FILE": str(tmp_path / "url"), "RELAY_SECRET_KEY_FILE": str(tmp_path / "key")}
    found = process(files)
    assert found.database_url.value == "postgresql://relay@localhost/relay"
    assert found.keys.secret == b"k" * 16
    assert refused(files | PROCESS).keys() == {"RELAY_DATABASE_URL", "RELAY_SECRET_KEY"}


def test_the_key_stays_as_it_is() -> None:
    """A blank or line end at the end of the key hashed customers from the first day on; blanks alone are no key."""
    for key in ("k" * 16 + "\n", " " + "k" * 16):
        assert process(PROCESS | {"RELAY_SECRET_KEY": key}).keys.secret == key.encode()
    assert refused(PROCESS | {"RELAY_SECRET_KEY": " " * 16}) == {"RELAY_SECRET_KEY": _EMPTY}
    url = PROCESS["RELAY_DATABASE_URL"]
    assert process(PROCESS | {"RELAY_DATABASE_URL": url + "\n"}).database_url.value == url


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ("10.0.0.0/8,", ["entry 2 is empty", "networks with commas between"]),
        ("10.0.0.0/8; s3cret/8", ["entry 1: is no network", "networks with commas between"]),
        ("::1, 10.0.0.1/8, x", ["entry 2: 10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?", "entry 3: is no"]),
        ("167772160", ["entry 1: is no network"]),
        ("10.0.0.0/8,0.0.0.0/0", ["trusts every address", "X-Forwarded-For"]),
        ("::/0", ["trusts every address"]),
        ("::ffff:0:0/96", ["trusts every address"]),
        ("0.0.0.0/1,128.0.0.0/1", ["trusts every address"]),
    ],
)
def test_trusted_proxies_that_cannot_be_meant(given: str, messages: list[str]) -> None:
    """Each entry that is no network is named by its place; to trust everybody is to believe what senders write."""
    found = refused(PROCESS | {"RELAY_TRUSTED_PROXIES": given})
    assert found.keys() == {"RELAY_TRUSTED_PROXIES"}
    assert all(message in found["RELAY_TRUSTED_PROXIES"] for message in messages)


def test_trusted_proxies() -> None:
    """Networks with commas between, and single addresses."""
    found = process(PROCESS | {"RELAY_TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.1 ,2001:db8::/32,::ffff:a01:0/112"})
    assert [str(one) for one in found.trusted_proxies] == [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "2001:db8::/32",
        "::ffff:a01:0/112",
    ]


@pytest.mark.parametrize(
    ("sizes", "field", "message"),
    [
        ({"WEBHOOK": 2_000_000, "BODY": 1_000_000}, "WEBHOOK", "is more than RELAY_BODY_BYTES_MAX"),
        ({"WEBHOOK": 10_000_001}, "WEBHOOK", "is more than RELAY_BODY_BYTES_MAX"),
        ({"RECEIVING": 1_000_000}, "RECEIVING", "(1,000,000) is less than RELAY_BODY_BYTES_MAX"),
        ({"BODY": 60_000_000}, "RECEIVING", "(50,000,000) is less than RELAY_BODY_BYTES_MAX"),
        ({"BODY": 60_000_000, "RECEIVING": 59_999_999}, "RECEIVING", "(59,999,999) is less than RELAY_BODY_BYTES_MAX"),
    ],
)
def test_sizes_that_contradict_each_other(sizes: dict[str, int], field: str, message: str) -> None:
    """A limit that another one makes meaningless is told, by its name and with all other mistakes."""
    given = {f"RELAY_{name}_BYTES_MAX": str(size) for name, size in sizes.items()}
    found = refused({**PROCESS, **given, "RELAY_PORT": "70000"})
    assert found.keys() == {f"RELAY_{field}_BYTES_MAX", "RELAY_PORT"}
    assert message in found[f"RELAY_{field}_BYTES_MAX"]


@pytest.mark.parametrize(
    "sizes",
    [{"BODY": 500_000}, {"WEBHOOK": 10_000_000}, {"BODY": 50_000_000}, {"BODY": 60_000_000, "RECEIVING": 60_000_000}],
)
def test_sizes_that_go_together(sizes: dict[str, int]) -> None:
    """Equal sizes do; and the default for a webhook is lowered with that for all bodies."""
    found = process(PROCESS | {f"RELAY_{name}_BYTES_MAX": str(size) for name, size in sizes.items()})
    assert found.body_bytes_max == sizes.get("BODY", 10_000_000)


def test_nothing_set_says_what_to_do() -> None:
    """Who starts relay with nothing learns how the database is named, of the demo, and how to make a key."""
    found = refused({})
    assert found.keys() == {"RELAY_DATABASE_URL", "RELAY_SECRET_KEY"}
    assert "postgresql://" in found["RELAY_DATABASE_URL"]
    assert "relay demo" in found["RELAY_DATABASE_URL"]
    assert "openssl rand -hex 32" in found["RELAY_SECRET_KEY"]


def test_mistakes_in_the_environment_come_together() -> None:
    """All variables that cannot work are told at once, without their values."""
    found = refused(
        {
            "RELAY_DATABASE_URL": "mysql://relay:s3cret@localhost",
            "RELAY_SECRET_KEY": "s3cret-short",
            "RELAY_PORT": "70000",
            "RELAY_OPS_PORT": "tcp://10.0.0.7:9090",
            "RELAY_LOG_LEVEL": "loud",
            "RELAY_LEASE_S": "soon",
        }
    )
    assert found.keys() == {
        "RELAY_DATABASE_URL",
        "RELAY_SECRET_KEY",
        "RELAY_PORT",
        "RELAY_OPS_PORT",
        "RELAY_LOG_LEVEL",
        "RELAY_LEASE_S",
    }
    assert "16 bytes" in found["RELAY_SECRET_KEY"]
    assert "enableServiceLinks" in found["RELAY_OPS_PORT"]


@pytest.mark.parametrize("kind", ["env", "file"])
@pytest.mark.parametrize(
    "secret",
    [
        "s3cret-pasted",
        "S3CRETabcdefg0123456789+/==",
        "whsec_S3cretS3cretS3cretS3cret=",
        "/S3cret/pasted",
        "s3cret\x00s",
        "髙橋",
    ],
)
def test_a_secret_in_the_place_of_its_name_is_not_repeated(tmp_path: Path, kind: str, secret: str) -> None:
    """Who pastes a password where the name of its variable or file should be is told where, and not what."""
    text = EXAMPLE.replace('{ env = "BLASTMAIL_PASSWORD" }', f"{{ {kind} = {json.dumps(secret)} }}")
    with pytest.raises(SettingsError) as error:
        read(tmp_path, text)
    (problem,) = error.value.problems
    assert problem.field == "logins.blast.password"
    assert "of this name" in problem.message
    assert not [part for part in ("s3cret", "S3CRET", "S3cret", "髙橋") if part in problem.message]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://relay:s3cret#more@localhost/relay",
        "postgresql://relay:s3cret/more@localhost/relay",
        "postgresql://relay:s3cret?more@localhost/relay",
        "postgresql://relay:more@localhost:s3cret/relay",
        "postgresql://relay:more@localhost:70000/relay",
        "postgresql://relay:more@localhost,replica:x/relay",
        "postgresql://relay:more@[::1/relay",
    ],
)
def test_a_database_url_that_cannot_be_taken_apart(url: str) -> None:
    """A password that is not percent-encoded is told as such: the library's own error would quote half of it."""
    found = refused({**PROCESS, "RELAY_DATABASE_URL": url})
    assert found.keys() == {"RELAY_DATABASE_URL"}
    assert "percent-encoded" in found["RELAY_DATABASE_URL"]
    assert not {"s3cret", "more"} & set(re.findall(r"\w+", found["RELAY_DATABASE_URL"]))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost",
        "postgres://relay:p%23%2F%3Fw@db.example.com:5432/relay?sslmode=require",
        "postgresql://relay:pass@word:more@localhost/relay",
        "postgresql://relay@one:5432,two:5433,[::1]:5434/relay",
        "postgresql://relay@/relay?host=/var/run/postgresql&port=5433",
        "postgresql://%2Fvar%2Frun%2Fpostgresql/relay",
        "postgresql:///relay",
    ],
)
def test_database_urls_of_all_kinds_are_taken(url: str) -> None:
    """With several hosts, sockets, IPv6, and passwords that libpq would read."""
    assert process({**PROCESS, "RELAY_DATABASE_URL": url}).database_url.value == url


def test_migrate_needs_the_database_only() -> None:
    """The one who migrates needs no secret; without a URL the message is the same."""
    assert database_url({"RELAY_DATABASE_URL": "postgresql://localhost/relay"}).value == "postgresql://localhost/relay"
    with pytest.raises(SettingsError, match="relay demo"):
        database_url({})
