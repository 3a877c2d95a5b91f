"""What events promise: which word replaces which, and keys that tell nothing."""

import hashlib
import hmac

import pytest

from relay.events import OPT_OUTS, PERMISSIONS, SUPERSEDED_BY, TYPES, Keys, Operation

U, D, S, B, A = Operation.UPSERT, Operation.DELETE, Operation.STOP, Operation.BAN, Operation.ALLOW
KEYS = Keys(b"a secret of the deployment")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [(U, {U, D}), (D, {D, U}), (S, {S, B, A, D}), (B, {S, B, A, D}), (A, {S, B, A, D})],
)
def test_what_replaces_what(earlier: Operation, later: set[Operation]) -> None:
    """A record is replaced by a record or a delete, a permission by a permission or a delete, never by a record."""
    assert SUPERSEDED_BY[earlier] == later


def test_the_table_leaves_no_operation_out() -> None:
    """Every operation has its row, and every opt-out is replaced by what says as much or was said after it."""
    assert set(SUPERSEDED_BY) == set(Operation)
    assert all(earlier in SUPERSEDED_BY[earlier] for earlier in Operation), "a repeat replaces the one before"
    assert {o for o in Operation if o.opt_out} == OPT_OUTS == {D, S, B}
    assert {S, B, A} == PERMISSIONS
    assert set(TYPES.values()) == set(Operation)


def test_a_customer_is_the_same_in_every_spelling() -> None:
    """Upper and lower case make no customer; any other difference does."""
    assert KEYS.customer("Taro.Yamada@Example.JP") == KEYS.customer("taro.yamada@example.jp")
    assert KEYS.customer("taro.yamada@example.jp") != KEYS.customer("taroyamada@example.jp")


def test_hashes_are_keyed_and_kept_apart_by_purpose() -> None:
    """Without the secret no hash can be made, and a customer's is no digest's, though the bytes hashed are the same."""
    assert (
        KEYS.customer("a@example.jp") == hmac.new(KEYS.secret, b"customer\0a@example.jp", hashlib.sha256).digest()[:16]
    )
    assert KEYS.customer("a@example.jp") != Keys(b"another secret").customer("a@example.jp")
    text = "a@example.jp"
    hashes = {KEYS.customer(text).hex(), KEYS.digest(text.encode()).hex(), KEYS.settings(text.encode())}
    assert len(hashes) == 3
    assert {len(bytes.fromhex(h)) for h in hashes} == {16}
    assert KEYS.digest(b"a") != KEYS.digest(b"b")


def test_the_fingerprint_tells_secrets_apart_and_nothing_else() -> None:
    """Another secret has another fingerprint; neither it nor the repr holds the secret."""
    assert KEYS.fingerprint() == Keys(b"a secret of the deployment").fingerprint()
    assert KEYS.fingerprint() != Keys(b"a secret of the deployment.").fingerprint()
    assert len(KEYS.fingerprint()) == 32
    assert repr(KEYS) == "Keys(<secret>)"
    assert str(KEYS) == "Keys(<secret>)"
