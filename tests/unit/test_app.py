"""What relay.app promises of the process that it starts."""

import gc
from collections.abc import Iterator

import pytest

from relay import app


@pytest.fixture
def collector() -> Iterator[None]:
    """Python's collector, which is as before afterwards."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("collector")
def test_the_collector_is_spared_what_stays() -> None:
    """What is there by then is never gone over again, and the rest far less often than Python would."""
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    stays = {"one of many": [object()]}
    app.spare_collector()
    assert gc.get_freeze_count() > frozen + 1000, "what stays is not passed over"
    assert gc.is_tracked(stays)
    assert not any(one is stays for one in gc.get_objects()), "a frozen object would be among no generation's"
    assert gc.get_threshold()[0] >= thresholds[0] * 10
    assert gc.isenabled()
