"""The generated customers."""

from datetime import date
from itertools import islice

from relay.demo.customers import HARD_NAMES, PLANS, generate


def test_customers_are_repeatable_and_distinct() -> None:
    """The same seed gives the same customers, fewer of them the first of more; another seed gives others."""
    many = list(generate(2_000, 7))
    assert list(generate(500, 7)) == many[:500]
    assert list(islice(generate(2_000, 8), 50)) != many[:50]
    assert len({customer.email.casefold() for customer in many}) == len(many)
    assert all(customer.email.endswith("@example.jp") and customer.email.isascii() for customer in many)


def test_customers_are_valid_webhook_data() -> None:
    """Birthdays are ISO dates the vendors take, plans are known keys, nothing is empty."""
    for customer in generate(500, 1):
        assert date(1910, 1, 1) <= date.fromisoformat(customer.birthday) <= date(2037, 12, 31)
        assert customer.plan in PLANS
        assert all(customer.data().values())


def test_about_one_in_twenty_is_hard() -> None:
    """Every hard name occurs, and hard ones are between 3 and 7 per cent."""
    many = list(generate(4_000, 3))
    families = [customer.name.rsplit(" ", 1)[0] for customer in many]
    hard = {family for family, _ in HARD_NAMES}
    assert hard <= set(families)
    assert 0.03 < sum(family in hard for family in families) / len(many) < 0.07
    assert any(".." in customer.email for customer in many)
