"""What an operator allows, and what a create costs: asked before anything is sent.

Rules. Money is a Decimal and a currency, never a float. A price that cannot be known lets nothing through. What is
spent is what the ledger knows to be paid for, or cannot rule out; it adds that up in the very step that writes the
next create down, so that of two at once only what fits the budget passes. What sends nothing new is never in the way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from decimal import ROUND_UP, Context, Decimal, InvalidOperation
from typing import Any, Final, NamedTuple, TypeAlias, get_args

from .errors import ConfigurationError, InvalidRequestError
from .schemas import FRAMES_PER_SECOND, Operation, VideoRequest, shortened

_EXACT: Final = Context(prec=60, rounding=ROUND_UP)
"""A caller's own decimal context may round; this one has room for any sum of amounts within the bounds."""

_MOST: Final = Decimal(10) ** 12
_PLACES: Final = 12

_UNSENT: Final = "Nothing was sent and nothing was charged now."


class Price(NamedTuple):
    """An amount of money.

    Attributes:
        amount: 0 to 1,000,000,000,000. What has more than 12 decimal places is rounded up to them.
        currency: Its name, as ``"USD"`` or ``"credits"``: 1 to 16 visible characters.
    """

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"


PriceOf: TypeAlias = Callable[[VideoRequest], tuple[Decimal, str]]
"""What a request costs: quick, without I/O, and always the same for the same request."""

Amount: TypeAlias = Price | Decimal | int | str
"""A bound on money. A bare number is in whatever currency the price is, each currency by itself."""


class Spent(NamedTuple):
    """What has been spent in one currency, at one gateway with one API key, the create that is asked about included.

    Attributes:
        thread: By its conversation; what belongs to none counts as one conversation.
        day: In the last 24 hours.
    """

    thread: Decimal
    day: Decimal


Check: TypeAlias = Callable[[Spent], None]
"""Raises where a create may not be sent."""


@dataclass(frozen=True, kw_only=True)
class VideoLimits:
    """What the operator allows. What is None is not limited.

    The fields that the request documents are held against it; ``extra`` is the operator's own, and is not read.

    Args:
        max_width: Pixels.
        max_height: Pixels.
        max_frames: Frames of one video; 30 are a second.
        max_variants: Videos of one request.
        operations: The operations allowed.
        max_spend_per_thread: What one conversation may spend in all, as far back as the ledger goes. Creates outside
            any conversation count as one. Needs ``price`` and a ledger that remembers, as the next one does.
        max_spend_per_day: What may be spent in 24 hours, with one API key at one gateway.

    Raises:
        ConfigurationError: A limit is nothing that can be held.
    """

    max_width: int | None = None
    max_height: int | None = None
    max_frames: int | None = None
    max_variants: int | None = None
    operations: Collection[str] | None = None
    max_spend_per_thread: Amount | None = None
    max_spend_per_day: Amount | None = None

    def __post_init__(self) -> None:
        for name in ("max_width", "max_height", "max_frames", "max_variants"):
            given = getattr(self, name)
            if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
                raise ConfigurationError(f"{name}={given!r} was given; it is a whole number, 1 or more.")
        for name in ("max_spend_per_thread", "max_spend_per_day"):
            if getattr(self, name) is not None:
                bound(name, getattr(self, name))
        if self.operations is not None:
            known = get_args(Operation)
            if isinstance(self.operations, str) or not self.operations or not set(self.operations) <= set(known):
                raise ConfigurationError(
                    f"operations={self.operations!r} was given; it is some of {', '.join(known)}, as a tuple."
                )
            object.__setattr__(self, "operations", tuple(self.operations))

    @property
    def spending(self) -> bool:
        """Whether money is limited."""
        return self.max_spend_per_thread is not None or self.max_spend_per_day is not None

    def check(self, request: VideoRequest) -> None:
        """Hold a request against everything but money.

        Raises:
            InvalidRequestError: It is more than is allowed; the message names every limit that it breaks.
        """
        measured = (
            ("width", request.width, self.max_width),
            ("height", request.height, self.max_height),
            ("n_frames", request.n_frames, self.max_frames),
            ("n_variants", request.n_variants, self.max_variants),
        )
        broken = [
            f"{name}: {given} was given; at most {most} is allowed"
            + (f" ({most / FRAMES_PER_SECOND:g} s)" if name == "n_frames" else "")
            for name, given, most in measured
            if most is not None and given > most
        ]
        if self.operations is not None and request.operation not in self.operations:
            broken.append(f"operation: {request.operation!r} was given; allowed: {', '.join(self.operations)}")
        if broken:
            raise InvalidRequestError(
                f"The request is more than the operator allows: {'; '.join(broken)}.",
                hint=f"{_UNSENT} Change what is named here and ask again.",
            )

    def check_spending(self, cost: Price, spent: Spent) -> None:
        """Hold what a create costs against what is left.

        Raises:
            InvalidRequestError: It is more than is left.
            ConfigurationError: A limit is in another currency than the price.
        """
        budgets = (
            ("this conversation", "max_spend_per_thread", self.max_spend_per_thread, spent.thread),
            ("24 hours", "max_spend_per_day", self.max_spend_per_day, spent.day),
        )
        over, left = [], []
        for whose, name, given, with_it in budgets:
            if given is None:
                continue
            most, currency = bound(name, given)
            if currency not in (None, cost.currency):
                raise ConfigurationError(
                    f"{name} is in {currency}, and price= says {cost}.", hint="Give both in one currency."
                )
            if with_it > most:
                before = _EXACT.subtract(with_it, cost.amount)
                left.append(_EXACT.subtract(most, before))
                over.append(f"of the {Price(most, cost.currency)} for {whose}, {before:f} is spent or under way")
        if over:
            fits = min(left)
            advice = (
                f"Ask for what costs at most {Price(fits, cost.currency)} (fewer n_frames or n_variants, or a smaller "
                "size), or tell the user that the budget is used up."
                if fits > 0
                else "Tell the user that the budget is used up."
            )
            raise InvalidRequestError(
                f"This request costs {cost}, which is more than is left: {'; '.join(over)}.",
                hint=f"{_UNSENT} {advice}",
            )


def agreed(limits: VideoLimits | None, price: object, *, remembers: bool) -> None:
    """Check that limits and price can be held together.

    Args:
        limits: What is allowed.
        price: What a request costs.
        remembers: Whether the ledger keeps what was sent.

    Raises:
        ConfigurationError: They cannot; it says what is missing.
    """
    if limits is not None and not isinstance(limits, VideoLimits):
        raise ConfigurationError(f"limits={limits!r} was given; it is a VideoLimits.")
    if price is not None and (not callable(price) or inspect.iscoroutinefunction(price)):
        raise ConfigurationError(
            f"price={price!r} was given; it is a function, not a coroutine's, from a VideoRequest to a Price."
        )
    if limits is None or not limits.spending:
        return
    if price is None:
        raise ConfigurationError(
            "The limits bound what may be spent, and nothing says what a request costs.",
            hint='Pass price=, a function from a VideoRequest to Price(Decimal("0.50"), "USD").',
        )
    if not remembers:
        raise ConfigurationError(
            "The limits bound what may be spent, and this ledger forgets what was.",
            hint="Set SORA_LEDGER (or ledger=) to a file, or to 'memory' for a budget of this process alone.",
        )


def terms(
    limits: VideoLimits | None, price: PriceOf | None, request: VideoRequest
) -> tuple[Price | None, Check | None]:
    """What a request costs, and what has to be asked before it is sent.

    Returns:
        The price, where it is known; and a check, for the ledger to ask at the moment in which it would write a new
        create down. What is wrong is raised by that check and not before: a key that is known already is answered
        whatever the limits are now.
    """
    cost: Price | None = None
    objection: ConfigurationError | InvalidRequestError | None = None
    try:
        if limits is not None:
            limits.check(request)
        if price is not None:
            cost = priced(price, request)
        elif limits is not None:
            agreed(limits, price, remembers=True)
    except (ConfigurationError, InvalidRequestError) as error:
        objection = error

    def check(spent: Spent) -> None:
        if objection is not None:
            raise objection
        if limits is not None and cost is not None:
            limits.check_spending(cost, spent)

    asks = objection is not None or (limits is not None and limits.spending)
    return cost, check if asks else None


def priced(price: PriceOf, request: VideoRequest) -> Price:
    """What a request costs.

    Raises:
        ConfigurationError: The function raised, or what it returned is no price.
    """
    try:
        told: Any = price(request)
    except Exception as error:
        raise ConfigurationError(
            f"price= raised {type(error).__name__} for this request: {shortened(str(error), 200)}",
            hint="What a create costs has to be known before it is sent.",
        ) from error
    if isinstance(told, tuple) and len(told) == 2 and _is_currency(told[1]):
        amount = _rounded_up(told[0])
        if _is_amount(amount):
            return Price(amount, told[1])
    raise ConfigurationError(
        f'price= returned {shortened(repr(told), 80)}; it returns a Price, as Price(Decimal("0.50"), "USD").',
        hint="What a create costs has to be known before it is sent.",
    )


def bound(name: str, given: object) -> tuple[Decimal, str | None]:
    """A bound on money as an amount, and its currency where it names one.

    Raises:
        ConfigurationError: It is none; it is called by ``name``.
    """
    value, currency = given if isinstance(given, Price) else (given, None)
    try:
        amount = Decimal(value) if isinstance(value, Decimal | int | str) and not isinstance(value, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not _is_amount(amount) or not (currency is None or _is_currency(currency)):
        raise ConfigurationError(
            f'{name}={given!r} was given; it is a Decimal, a whole number, text such as "9.50", or a Price, 0 or more.'
        )
    return amount, currency


def added(amounts: Iterable[tuple[Decimal, int]]) -> Decimal:
    """The exact sum of amounts, each so many times."""
    total = Decimal(0)
    for amount, times in amounts:
        total = _EXACT.add(total, _EXACT.multiply(amount, Decimal(times)))
    return total


def once_more(first: Price | None, again: Price | None) -> Price | None:
    """The price of a create that may be paid for a second time.

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
        return _EXACT.quantize(value, Decimal(1).scaleb(-_PLACES))
    return value


def _is_amount(value: object) -> bool:
    if not isinstance(value, Decimal) or not value.is_finite() or value.is_signed():
        return False
    exponent = value.as_tuple().exponent
    return value <= _MOST and isinstance(exponent, int) and exponent >= -_PLACES


def _is_currency(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 16 and value.isprintable() and value == value.strip()
