"""Delete: take a task and its videos away at the gateway.

Rule: it goes by the task's own id, and is never sent for a create whose fate is unknown.
"""

from __future__ import annotations

from ..errors import EndpointUnavailableError
from .exchange import Gateway, ask
from .look import identify
from .wishes import Do, Flow


def delete(gateway: Gateway, name: str) -> Flow[None]:
    """Delete a task at the gateway. Whether a job that still runs is stopped, and refunded, is up to the gateway.

    Args:
        gateway: Whose task it is.
        name: A task id or ledger key.

    Raises:
        EndpointUnavailableError: The format, or the gateway, has no such route.
        TaskNotFoundError: The gateway knows no such task.
    """
    deadline = gateway.clock() + gateway.patience
    gateway, task_id, submission = yield from identify(gateway, name, deadline)
    call = gateway.dialect.delete(task_id)
    if call is None:
        raise EndpointUnavailableError(
            f"The {gateway.dialect.name} format cannot delete a task.", charged="no", retryable=False, task_id=task_id
        )
    yield from ask(gateway, call, deadline)
    if submission is not None and submission.outcome is None:
        yield Do(gateway.ledger.end, (gateway.settings.origin, task_id, "cancelled"))
