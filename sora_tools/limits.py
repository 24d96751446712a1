"""What an operator allows: asked before anything is sent.

Rules. A price that cannot be known lets nothing through. What is held against a limit is what would be made: a format
with few lengths and sizes makes the nearest, whatever was asked for. What is spent is what the ledger knows to be paid
for, or cannot rule out; it adds that up in the very step that writes the next create down, so that of two at once only
what fits the budget passes. What sends nothing new is never in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias, get_args

from .errors import ConfigurationError, InvalidRequestError
from .prices import EXACT, Amount, Price, PriceOf, bounded_by, check_price_of, nothing_says_the_price, priced
from .schemas import FRAMES_PER_SECOND, Operation, VideoRequest

_UNSENT: Final = "Nothing was sent and nothing was charged now."


class Spent(NamedTuple):
    """What has been spent in one currency, at one gateway with one API key, the create that is asked about included.

    Attributes:
        thread: By its conversation; what belongs to none counts as one conversation.
        day: By what was last sent within 24 hours.
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
    operations: Sequence[Operation] | None = None
    max_spend_per_thread: Amount | None = None
    max_spend_per_day: Amount | None = None

    def __post_init__(self) -> None:
        for name in ("max_width", "max_height", "max_frames", "max_variants"):
            given = getattr(self, name)
            if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
                raise ConfigurationError(f"{name}={given!r} was given; it is a whole number, 1 or more.")
        for name in ("max_spend_per_thread", "max_spend_per_day"):
            if getattr(self, name) is not None:
                bounded_by(name, getattr(self, name))
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

    def check(self, request: VideoRequest, made: VideoRequest | None = None) -> None:
        """Hold a request against everything but money.

        Args:
            request: What was asked for.
            made: What would be made of it, where that is not the same.

        Raises:
            InvalidRequestError: It is more than is allowed; the message names every limit that it breaks.
        """
        measured = (
            ("width", self.max_width),
            ("height", self.max_height),
            ("n_frames", self.max_frames),
            ("n_variants", self.max_variants),
        )
        broken = []
        for name, most in measured:
            asked, given = getattr(request, name), getattr(made or request, name)
            if most is not None and given > most:
                said = "was given" if given == asked else f"would be made of the {asked} given"
                length = f" ({most / FRAMES_PER_SECOND:g} s)" if name == "n_frames" else ""
                broken.append(f"{name}: {given} {said}; at most {most} is allowed{length}")
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
            most, currency = bounded_by(name, given)
            if currency not in (None, cost.currency):
                raise ConfigurationError(
                    f"{name} is in {currency}, and price= says {cost}.", hint="Give both in one currency."
                )
            if with_it > most:
                before = EXACT.subtract(with_it, cost.amount)
                left.append(EXACT.subtract(most, before))
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


def check_limits(limits: VideoLimits | None, price: PriceOf | None, *, remembers: bool) -> None:
    """Check that limits can be held.

    Args:
        limits: What is allowed.
        price: What a request costs.
        remembers: Whether the ledger keeps what was sent.

    Raises:
        ConfigurationError: They cannot; it says what is missing.
    """
    check_price_of(price)
    if limits is not None and not isinstance(limits, VideoLimits):
        raise ConfigurationError(f"limits={limits!r} was given; it is a VideoLimits.")
    if limits is None or not limits.spending:
        return
    if price is None:
        raise nothing_says_the_price("The limits bound what may be spent")
    if not remembers:
        raise ConfigurationError(
            "The limits bound what may be spent, and this ledger forgets what was.",
            hint="Set SORA_LEDGER (or ledger=) to a file, or to 'memory' for a budget of this process alone.",
        )


def price_and_check(
    limits: VideoLimits | None, price: PriceOf | None, request: VideoRequest, made: VideoRequest | None
) -> tuple[Price | None, Check | None]:
    """What a create costs, and what has to be asked before it is sent.

    Args:
        limits: What is allowed, as :func:`check_limits` has let it pass.
        price: What a request costs.
        request: What was asked for.
        made: What would be made of it, which is what costs; None where nobody knows.

    Returns:
        The price, where it is known; and a check, for the ledger to ask at the moment in which it would write a new
        create down. What is wrong is raised by that check and not before: a key that is known already is answered
        whatever the limits are now.
    """
    cost: Price | None = None
    objection: ConfigurationError | InvalidRequestError | None = None
    if made is None and limits is not None and limits.spending:
        objection = InvalidRequestError(
            f"operation: {request.operation!r} was given; in this format it has the length and the size of its source. "
            "So what it costs is not known, and there is a budget.",
            hint=f"{_UNSENT} Make a new video of a prompt, or tell the user.",
        )
    try:
        if limits is not None:
            limits.check(request, made)
        if price is not None and made is not None:
            cost = priced(price, made)
    except (ConfigurationError, InvalidRequestError) as error:
        objection = error

    def check(spent: Spent) -> None:
        if objection is not None:
            raise objection
        if limits is not None and limits.spending:
            assert cost is not None, "a budget without a price"
            limits.check_spending(cost, spent)

    asks = objection is not None or (limits is not None and limits.spending)
    return cost, check if asks else None
