"""Reader lists: what a vendor's says, what webhooks ask for, and where the two differ."""

from collections.abc import Mapping

from relay.demo.customers import PLANS
from relay.demo.sim_server import Sim
from relay.demo.traffic import Expected, as_mailed
from tests.acceptance.settings_file import HEADERS

List = dict[str, tuple[bool, dict[str, str]]]
"""A reader list by case-folded address: whether mail goes there, and the cells of `HEADERS`."""


def found(sim: Sim, contract: str | int) -> List:
    """Return a vendor's list as it now stands."""
    return {
        address.casefold(): (seen.mailable, {header: seen.fields[header] for header in HEADERS})
        for address, seen in sim.readers(contract).items()
    }


def wanted(expected: Expected) -> List:
    """Return the list that webhooks ask for."""
    return {address: (mailable, _cells(data)) for address, (mailable, data) in expected.readers().items()}


def _cells(data: Mapping[str, str]) -> dict[str, str]:
    cells = {header: as_mailed(data[name]) for header, name in HEADERS.items()}
    return {**cells, "生年月日": data["birthday"].replace("-", ""), "会員種別": PLANS[data["plan"]]}


def differences(one: List, other: List) -> dict[str, tuple[object, object]]:
    """Return the readers that are not the same in both lists, with what each says."""
    return {a: (one.get(a), other.get(a)) for a in one.keys() | other.keys() if one.get(a) != other.get(a)}
