"""What a create costs: an amount of money, who says it, and sums of it.

Rules. Money is a Decimal and a currency, never a float. A price that cannot be known is an error, and what is wrong
with it is told by its type alone: a model reads that error, and an operator's program is none of its business.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import ROUND_UP, Context, Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

from .errors import ConfigurationError
from .schemas import VideoRequest

EXACT: Final = Context(prec=60, rounding=ROUND_UP)
"""A caller's own decimal context may round; this one has room for any sum of amounts within the bounds."""

_MOST: Final = Decimal(10) ** 12
_PLACES: Final = 12
_EXAMPLE: Final = 'Price(Decimal("0.50"), "USD")'


@dataclass(frozen=True, slots=True)
class Price:
    """An amount of money, as ``Price(Decimal("0.50"), "USD")``.

    Args:
        amount: 0 to 1,000,000,000,000. What has more than 12 decimal places is rounded up to them.
        currency: Its name, as ``"USD"`` or ``"credits"``: 1 to 16 visible characters.

    Raises:
        ConfigurationError: It is no such amount, or no such name.
    """

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        amount = _rounded_up(self.amount)
        if not _is_amount(amount):
            raise ConfigurationError(
                f"A Price of amount={self.amount!r} was given; it is a Decimal, 0 to {_MOST:,}.",
                hint=f"Give it as {_EXAMPLE}: a float has no exact value.",
            )
        if not _is_currency(self.currency):
            raise ConfigurationError(
                f"A Price of currency={self.currency!r} was given; it is a name of 1 to 16 visible characters.",
                hint=f"Give it as {_EXAMPLE}.",
            )
        object.__setattr__(self, "amount", amount)

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"


PriceOf: TypeAlias = Callable[[VideoRequest], Price]
"""What a request costs: quick, without I/O, and always the same for the same request."""

Amount: TypeAlias = Price | Decimal | int | str
"""A bound on money. A bare number is in whatever currency the price is, each currency by itself."""


def check_price_of(price: object) -> None:
    """Check that ``price=`` can be asked at all.

    Raises:
        ConfigurationError: It is no function, or a coroutine's.
    """
    if price is not None and (not callable(price) or inspect.iscoroutinefunction(price)):
        raise ConfigurationError(
            f"price={price!r} was given; it is a function, not a coroutine's, from a VideoRequest to a Price."
        )


def nothing_says_the_price(what: str) -> ConfigurationError:
    """The error for a bound on money where there is no ``price=``."""
    return ConfigurationError(
        f"{what}, and nothing says what a request costs.",
        hint=f"Pass price=, a function from a VideoRequest to {_EXAMPLE}.",
    )


def priced(price: PriceOf, request: VideoRequest) -> Price:
    """What a request costs.

    Raises:
        ConfigurationError: The function raised, or what it returned is no price.
    """
    hint = "What a create costs has to be known before it is sent."
    try:
        told: Any = price(request)
    except Exception as error:
        raise ConfigurationError(f"price= raised {type(error).__name__} for this request.", hint=hint) from error
    if not isinstance(told, Price):
        raise ConfigurationError(f"price= returned a {type(told).__name__}; it returns {_EXAMPLE}.", hint=hint)
    return told


def bounded_by(name: str, given: object) -> tuple[Decimal, str | None]:
    """The amount that a bound on money allows, and its currency where it names one.

    Raises:
        ConfigurationError: It is none; it is called by ``name``.
    """
    if isinstance(given, Price):
        return given.amount, given.currency
    try:
        amount = Decimal(given) if isinstance(given, Decimal | int | str) and not isinstance(given, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not _is_amount(amount):
        raise ConfigurationError(
            f'{name}={given!r} was given; it is a Decimal, a whole number, text such as "9.50", or a Price, 0 or more.'
        )
    return amount, None


def added(amounts: Iterable[tuple[Decimal, int]]) -> Decimal:
    """The exact sum of amounts, each so many times."""
    total = Decimal(0)
    for amount, times in amounts:
        total = EXACT.add(total, EXACT.multiply(amount, Decimal(times)))
    return total


def paid_for_again(first: Price | None, again: Price | None) -> Price | None:
    """The price of a create that is sent again and may be paid for both times, as far as it is known.

    Raises:
        ConfigurationError: The two are in different currencies.
    """
    if first is None or again is None:
        return first or again
    if first.currency != again.currency:
        raise ConfigurationError(
            f"This create was priced at {first} when it was sent, and price= now says {again}.",
            hint="Give the price in the same currency.",
        )
    return Price(added([(first.amount, 1), (again.amount, 1)]), first.currency)


def _rounded_up(value: Any) -> Any:
    """A Decimal to as many places as can be added: the third of a cent has no end."""
    if not isinstance(value, Decimal) or not value.is_finite() or value > _MOST:
        return value
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_PLACES:
        return EXACT.quantize(value, Decimal(1).scaleb(-_PLACES))
    return value


def _is_amount(value: object) -> bool:
    if not isinstance(value, Decimal) or not value.is_finite() or value.is_signed():
        return False
    exponent = value.as_tuple().exponent
    return value <= _MOST and isinstance(exponent, int) and exponent >= -_PLACES


def _is_currency(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 16 and value.isprintable() and value == value.strip()
