"""A thousand orders, the same ones every time, raw and as the table bronze.daily_sales has them."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

COUNT = 1000

SCHEMA = (
    "order_id INT, order_date STRING, region STRING, product STRING, "
    "quantity INT, unit_cents INT, net_cents INT, prepared_with STRING"
)

_FIRST = datetime(2026, 1, 1)  # noqa: DTZ001 - a till knows no time zones
_REGIONS = ("North", "East", "South", "West")
_PRODUCTS = {"tea": 450, "coffee": 890, "cocoa": 620, "honey": 1290}  # cents


class Raw(NamedTuple):
    """An order as a till wrote it."""

    order_id: int
    ordered_at: str
    region: str
    product: str
    quantity: int
    unit_cents: int


def raw() -> list[Raw]:
    """Untidy orders: regions in any case and with blanks, and one in fifty far too large."""
    chance = random.Random(20260101)  # noqa: S311 - the same orders every time are what is wanted
    return [_order(number, chance) for number in range(1, COUNT + 1)]


def _order(number: int, chance: random.Random) -> Raw:
    region, product = chance.choice(_REGIONS), chance.choice(list(_PRODUCTS))
    untidy = chance.choice((region, region.upper(), region.lower(), f" {region} "))
    ordered_at = _FIRST + timedelta(minutes=chance.randrange(90 * 24 * 60))
    quantity = chance.randint(1, 9) * (40 if chance.random() < 1 / 50 else 1)
    return Raw(number, ordered_at.isoformat(), untidy, product, quantity, _PRODUCTS[product])


def prepared_without_pandas(orders: Iterable[Raw]) -> list[tuple[Any, ...]]:
    """The rows of bronze.daily_sales, for where the task that makes them with pandas cannot run."""
    return [
        (
            order.order_id,
            order.ordered_at[:10],
            order.region.strip().title(),
            order.product,
            order.quantity,
            order.unit_cents,
            order.quantity * order.unit_cents,
            "no pandas",
        )
        for order in orders
    ]
