"""Delete: take a task and its videos away at the gateway.

Rule: it goes by the task's own id, and is never sent for a create whose fate is unknown.
"""

from __future__ import annotations

from ..errors import EndpointUnavailableError, LostReplyError, TaskNotFoundError
from ..events import NotRecorded
from .exchange import Gateway, exchange, persist
from .look import identify
from .wishes import Do, Flow, Tell


def delete(gateway: Gateway, name: str) -> Flow[None]:
    """Delete a task at the gateway. Whether a job that still runs is stopped, and refunded, is up to the gateway.

    Args:
        gateway: Whose task it is.
        name: A task id or ledger key.

    Raises:
        EndpointUnavailableError: The format, or the gateway, has no such route.
        TaskNotFoundError: The gateway knows no such task.
        InvalidRequestError: The name cannot be one.
        SubmissionUnknownError: It is the key of a create whose fate is unknown.
    """
    deadline = gateway.clock() + gateway.patience
    gateway, task_id, submission = yield from identify(gateway, name, deadline)
    call = gateway.dialect.delete(task_id)
    if call is None:
        raise EndpointUnavailableError(
            f"The {gateway.dialect.name} format cannot delete a task.", charged="no", retryable=False, task_id=task_id
        )
    lost = False

    def attempt() -> Flow[None]:
        nonlocal lost
        try:
            yield from exchange(gateway, call, deadline)
        except LostReplyError:
            lost = True
            raise
        except TaskNotFoundError:
            if not lost:  # or else it was the first try that deleted it
                raise

    yield from persist(gateway, attempt, deadline)
    if submission is None or submission.outcome is not None:
        return
    try:
        yield Do(gateway.ledger.end, (gateway.settings.origin, task_id, "cancelled"))
    except Exception as error:  # noqa: BLE001  # it is deleted all the same; only a note of it is missing
        yield Tell(NotRecorded(submission.key, None, error))
