"""tenacity's loop with the sleeping taken out.

Rule: only a retryable error is answered by sending again, and a create only when moreover nothing was accepted
(``charged="no"``), or when a web page came in place of an answer (then the flow looks for the task before it sends).
Naps are noted down instead of slept, so that the flow hands them to its driver and a test reads them as values.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, retry_if_exception

from .errors import ConfigurationError, EndpointUnavailableError, SoraError


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how long to try again what was provably not accepted.

    Args:
        attempts: Sends in all, 1 or more.
        budget: Seconds in all from the first send, naps included; no send begins after them.
        first: Seconds the first nap lasts at most; each further one may last twice as long (full jitter).
        longest: Seconds any nap of ours lasts at most. A gateway's ``Retry-After`` is obeyed as given where it fits
            the budget, otherwise the error is raised at once and says when.
    """

    attempts: int = 4
    budget: float = 40.0
    first: float = 0.5
    longest: float = 8.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not all(
            0 <= seconds < float("inf") for seconds in (self.budget, self.first, self.longest)
        ):
            raise ConfigurationError(f"{self!r}: attempts is 1 or more, the rest are seconds, 0 or more.")

    def turns(
        self,
        nap: Callable[[float], None],
        *,
        paid: bool,
        deadline: float,
        clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> Retrying:
        """The attempts of one call, as tenacity's own iterator.

        Args:
            nap: Is told how long to sleep before the next attempt.
            paid: Whether the call is a create.
            deadline: When on the clock no further attempt may begin.
            clock: Seconds on a clock that only goes forward.
            jitter: A random number between 0 and 1.
        """

        def again(error: BaseException) -> bool:
            if not isinstance(error, SoraError) or not error.retryable:
                return False
            return not paid or error.charged == "no" or isinstance(error, EndpointUnavailableError)

        def pause(state: RetryCallState) -> float:
            error = _error(state)
            if error is not None and error.retry_after is not None:
                return error.retry_after
            return jitter() * min(self.longest, self.first * 2.0 ** (state.attempt_number - 1))

        def enough(state: RetryCallState) -> bool:
            error = _error(state)
            most = min(self.attempts, (error and error.most_sends) or self.attempts)
            return state.attempt_number >= most or clock() + state.upcoming_sleep > deadline

        return Retrying(sleep=nap, wait=pause, stop=enough, retry=retry_if_exception(again), reraise=True)


def _error(state: RetryCallState) -> SoraError | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, SoraError) else None
