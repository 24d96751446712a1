"""Named mutants: the package with one promise broken, and the tests that have to notice. ``make mutants`` shows them.

Each is applied to a copy of the package that shadows the installed one, and only the tests named for it are run. One
that passes them all has survived, and then it is a test that is missing.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
PACKAGE: Final = HERE.parent / "sora_tools"
AT_ONCE: Final = 2
PATIENCE: Final = 90.0
"""Seconds that the tests of one mutant take at most, hanging ones included."""


class Edit(NamedTuple):
    """A text that occurs exactly once in a file of the package, and what stands there instead."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


class Verdict(NamedTuple):
    """How a mutant fared.

    Attributes:
        caught_by: The test that failed first; "" where it survived.
        seconds: How long that took.
        said: What pytest printed.
    """

    caught_by: str
    seconds: float
    said: str


SUBMIT, RECONCILE, DOWNLOAD = (f"flow/{name}.py" for name in ("submit", "reconcile", "download"))
PARTS = "parts.py"
LISTEN = "flow/listen.py"
SQLITE, SUBMISSIONS, SHARED = "ledger/sqlite.py", "ledger/submissions.py", "client/shared.py"
LIMITS, APPROVAL = "limits.py", "tools/approval.py"
SORA, ASYNC_SORA, TRANSPORT = "client/sora.py", "client/async_sora.py", "client/transport.py"

MUTANTS: Final = (
    # --- the ledger ---------------------------------------------------------------------------------------------
    Mutant(
        "no write before send",
        (Edit(SQLITE, "intended = self._intend(db, submission)", "intended = submission"),),
        ("test_flow_submit.py::test_the_intent_is_written_before_the_request_leaves",),
    ),
    Mutant(
        "no write before send, and kill -9",
        (Edit(SQLITE, "intended = self._intend(db, submission)", "intended = submission"),),
        ("test_kill.py::test_a_process_that_ends_before_its_create_is_answered_has_paid_once_at_most",),
    ),
    Mutant(
        "what is written may be lost when the power fails",
        (Edit(SQLITE, "pragma synchronous = extra", "pragma synchronous = off"),),
        ("test_ledger.py::test_a_file_is_synced_before_anyone_goes_on",),
    ),
    Mutant(
        "no claim",
        (Edit(SQLITE, 'lock.execute("begin exclusive")', 'lock.execute("begin")'),),
        (
            "test_ledger.py::test_a_claim_belongs_to_one_until_it_is_left",
            "test_ledger.py::test_one_of_many_processes_may_send_on_a_new_file",
        ),
    ),
    Mutant(
        "a claim outlives its process",
        (
            Edit(
                SQLITE,
                "        lock = _connect(self._claim_path(key), 0.0)\n",
                "        if self._claim_path(key).exists():\n            return None\n"
                "        lock = _connect(self._claim_path(key), 0.0)\n",
            ),
        ),
        ("test_ledger.py::test_a_claim_outlives_a_forked_child_and_dies_with_its_holder",),
    ),
    Mutant(
        "a claim is not freed on exit",
        (Edit(SUBMISSIONS, "        free, self._free = self._free, _nothing\n        free()\n", "        pass\n"),),
        ("test_ledger.py::test_a_claim_belongs_to_one_until_it_is_left",),
    ),
    Mutant(
        "an intended submission without a claim is sent again",
        (Edit(SQLITE, "return Unsure(claim, row)", "return New(claim, row)"),),
        ("test_flow_reconcile.py::test_after_a_crash_the_next_call_looks_and_does_not_send",),
    ),
    Mutant(
        "no unique task id: two submissions may have one task",
        (
            Edit(SQLITE, "create unique index submission_task", "create index submission_task"),
            Edit(SQLITE, "if db.execute(taken, (task_id, claim.key)).fetchone() is None:", "if True:"),
        ),
        ("test_flow_reconcile.py::test_twins_adopt_two_different_tasks",),
    ),
    Mutant(
        "no unique task id in the file itself",
        (Edit(SQLITE, "create unique index submission_task", "create index submission_task"),),
        ("test_promises.py::test_the_file_itself_lets_no_two_submissions_have_one_task",),
    ),
    Mutant(
        "a direct answer no longer beats an adoption",
        (Edit(SQLITE, 'if holder is not None and holder["adopted"]:', "if False:"),),
        ("test_flow_reconcile.py::test_a_direct_answer_beats_an_adoption",),
    ),
    Mutant(
        "the repeat check is removed",
        (Edit(SQLITE, "if row is None and not repeat and (found", "if False and (found"),),
        ("test_flow_reconcile.py::test_asking_again_after_an_unknown_fate_looks_for_the_first",),
    ),
    Mutant(
        "the account is left out of the repeat check",
        (
            Edit(
                SQLITE,
                "where s.thread = ? and s.digest = ? and s.gateway = ? and s.account = ? and s.key <> ?",
                "where s.thread = ? and s.digest = ? and s.gateway = ? and ? is not null and s.key <> ?",
            ),
        ),
        ("test_ledger.py::test_what_is_not_the_same_is_not_held_back",),
    ),
    Mutant(
        "a key may be used for another request",
        (
            Edit(
                SQLITE,
                "(row.gateway, row.digest) != (submission.gateway, submission.digest)",
                "row.gateway != submission.gateway",
            ),
        ),
        ("test_ledger.py::test_a_key_belongs_to_one_request_at_one_gateway",),
    ),
    # --- what is sent, and when ---------------------------------------------------------------------------------
    Mutant(
        "retry on read timeout",
        (
            Edit(
                "retry.py",
                'return not paid or error.charged == "no" or isinstance(error, EndpointUnavailableError)',
                "return True",
            ),
            Edit(SUBMIT, "            if not self.gateway.honoured:\n                error.most_sends = 1\n", ""),
            Edit(SUBMIT, "if isinstance(begun, New) and not self.paged:", "if True:"),
        ),
        ("test_faults.py::test_a_create_is_sent_as_often_as_the_table_says[read timeout-fresh-sync]",),
    ),
    Mutant(
        "a lost create is judged like a lost look by the retry policy",
        (
            Edit(
                "retry.py",
                'return not paid or error.charged == "no" or isinstance(error, EndpointUnavailableError)',
                "return True",
            ),
        ),
        ("test_retry.py::test_a_lost_look_is_repeated_and_a_lost_create_is_not",),
    ),
    Mutant(
        "no look: a lost create is not looked for",
        (Edit(RECONCILE, "for pause in (0.0, *PAUSES):", "for pause in ():"),),
        ("test_flow_reconcile.py::test_a_task_that_shows_up_late_is_adopted",),
    ),
    Mutant(
        "no look: after a web page it is sent without looking",
        (
            Edit(
                SUBMIT,
                "if isinstance(begun, New) and not self.paged:",
                "if isinstance(begun, New) or self.paged:",
            ),
        ),
        ("test_flow_page.py::test_after_a_page_the_list_is_read_before_each_send",),
    ),
    Mutant(
        "it is settled before the reply is read",
        (
            Edit(
                SUBMIT,
                "            self.sent = True\n",
                '            self.sent = True\n            yield from noted(self.gateway, claim, "unsure")\n',
            ),
        ),
        ("test_flow_submit.py::test_the_intent_is_written_before_the_request_leaves",),
    ),
    Mutant(
        "refused is written for an unknown fate",
        (Edit(SUBMIT, 'self._turned_away if is_free else "unsure"', '"refused"'),),
        ("test_flow_submit.py::test_an_unknown_fate_is_never_sent_again",),
    ),
    Mutant(
        "a refusal after a web page clears the first send",
        (Edit(SUBMIT, '"unsure" if self.paged or self.lost else "refused"', '"refused"'),),
        ("test_flow_page.py::test_a_refusal_after_a_page_says_nothing_of_the_first_send",),
    ),
    Mutant(
        "the key is not in the Idempotency-Key header",
        (Edit("dialects/backend.py", 'headers={"Idempotency-Key": key}', "headers={}"),),
        ("test_backend_dialect.py::test_a_create_carries_the_documented_body_and_the_key",),
    ),
    Mutant(
        "a relay's create goes without its key",
        (Edit("dialects/generations.py", 'headers={"Idempotency-Key": key}', "headers={}"),),
        ("test_generations_dialect.py::test_a_create_says_size_and_length_as_they_were_asked_for",),
    ),
    Mutant(
        "a format without a list counts as a list without the task",
        (Edit(RECONCILE, 'doubt=LostReplyError("This format has no list to look for it in")', "doubt=None"),),
        ("test_flow_without_list.py::test_a_create_of_unknown_fate_is_sent_once_and_unknown_at_once",),
    ),
    Mutant(
        "any task that a relay answers with counts as the one that was asked for",
        (Edit("dialects/relays.py", "if any(_bare(name) == _bare(task_id) for", "if any(name for"),),
        ("test_generations_dialect.py::test_what_does_not_name_the_task_is_not_it",),
    ),
    Mutant(
        "what a format has no word for is left out in silence",
        (Edit("dialects/asking.py", "if request.n_variants != 1:", "if request.n_variants < 1:"),),
        ("test_unified_dialect.py::test_what_the_format_cannot_say_is_refused_before_anything_is_sent",),
    ),
    Mutant(
        "the key is not in the Idempotency-Key header of a chat",
        (Edit("dialects/chat.py", 'headers = {"Idempotency-Key": key}', "headers = {}"),),
        ("test_chat_dialect.py::test_a_create_is_a_streamed_completion_with_the_key",),
    ),
    Mutant(
        "an error in a chat is free though its task had shown itself",
        (
            Edit(
                "dialects/chat_reader.py",
                "if not self.accepted:\n            spoke",
                "if True:\n            spoke",
            ),
        ),
        ("test_chat_dialect.py::test_an_error_after_the_task_has_shown_itself_is_the_tasks_failure",),
    ),
    Mutant(
        "an error in a chat is free though something was said",
        (Edit("dialects/chat_reader.py", 'charged="unknown" if spoke else None', "charged=None"),),
        ("test_chat_dialect.py::test_an_error_before_the_task_has_shown_itself_is_a_refusal",),
    ),
    Mutant(
        "a chat that broke off counts as ended",
        (Edit("dialects/chat_reader.py", "has_ended = self._is_done or self._reason is not None", "has_ended = True"),),
        ("test_chat_dialect.py::test_an_answer_cut_after_any_event_is_no_success_without_the_video_and_never_free",),
    ),
    Mutant(
        "any address is believed of a chat that broke off",
        (Edit("dialects/chat_text.py", "FINAL: Final = Evidence.LINK", "FINAL: Final = Evidence.ALONE"),),
        ("test_chat_dialect.py::test_of_a_text_that_broke_off_only_a_closed_address_of_the_video_counts",),
    ),
    Mutant(
        "an address in a chat is believed before it is closed",
        (Edit("dialects/chat_text.py", "if match[2] and not re.search", "if not re.search"),),
        ("test_chat_dialect.py::test_what_is_not_the_video_is_not_taken_for_it",),
    ),
    Mutant(
        "a chat's prompt is read as if the gateway had said it",
        (
            Edit(
                "dialects/chat_text.py",
                'return told[known:brace], "" if brace is None else told[brace:]',
                'return told[known:], ""',
            ),
        ),
        ("test_chat_dialect.py::test_what_is_not_the_video_is_not_taken_for_it",),
    ),
    Mutant(
        "pages about a chat's task are taken for its video",
        (Edit("dialects/chat_text.py", "not any(decoy in url for decoy in _DECOYS)", "True"),),
        ("test_chat_dialect.py::test_what_is_not_the_video_is_not_taken_for_it",),
    ),
    Mutant(
        "the end of a chat's text is not remembered",
        (
            Edit(
                "dialects/chat_text.py",
                'self._window = told[told.rfind("\\n", 0, max(0, line - _WIDEST)) + 1 :][-_END:]',
                'self._window = ""',
            ),
        ),
        ("test_chat_dialect.py::test_text_that_comes_letter_by_letter_is_read_the_same",),
    ),
    Mutant(
        "a chat is given another name by what is said later",
        (
            Edit(
                "dialects/chat_text.py",
                "self.task_id = self.task_id or match[1] or match[2]",
                "self.task_id = match[1] or match[2] or self.task_id",
            ),
        ),
        ("test_chat_dialect.py::test_the_first_name_of_a_text_stays",),
    ),
    Mutant(
        "a chat takes no notice of redirects",
        (
            Edit(
                LISTEN,
                "call, reply = yield from answered(\n"
                "                gateway, call, lambda call: Stream(call, gateway.settings.timeout, _SILENCE)\n"
                "            )",
                "reply = yield Stream(call, gateway.settings.timeout, _SILENCE)",
            ),
        ),
        ("test_chat_faults.py::test_what_may_have_been_accepted_is_sent_once_and_unknown[sync-a redirect home]",),
    ),
    Mutant(
        "a chat whose caller went before it left stays unsure",
        (
            Edit(SUBMIT, "claim = claim.handed_over()  # to", "pass  # to"),
            Edit(SUBMIT, "listen(self.gateway, claim, call,", "listen(self.gateway, claim.handed_over(), call,"),
        ),
        ("test_chat_faults.py::test_an_interrupted_caller_leaves_it_unsent_and_free",),
    ),
    Mutant(
        "a chat's refusal clears an earlier send",
        (Edit(LISTEN, "noted(gateway, claim, turned_away, price=before)", 'noted(gateway, claim, "refused")'),),
        ("test_chat_faults.py::test_a_resend_that_is_turned_away_leaves_the_first_unknown",),
    ),
    Mutant(
        "a chat that was never heard of counts as charged",
        (
            Edit(
                "flow/look.py", "if gateway.dialect.tells_once:\n        return None", "if False:\n        return None"
            ),
        ),
        ("test_chat_faults.py::test_a_stream_that_hangs_before_its_first_event_is_unknown[sync]",),
    ),
    Mutant(
        "a chat that was refused late counts as broken off",
        (Edit(LISTEN, 'if row.state == "refused":', "if False:"),),
        ("test_chat_faults.py::test_a_refusal_that_comes_late_is_a_refusal_to_whoever_asks[sync]",),
    ),
    Mutant(
        "a chat that sends comments counts as silent",
        (Edit(LISTEN, "Said(_LONGEST)", "Said(_SILENCE)"),),
        ("test_chat_faults.py::test_comments_show_that_a_stream_is_alive[sync]",),
    ),
    Mutant(
        "a request that was given up before it left is sent later",
        (Edit(TRANSPORT, "                self.check_wanted()\n", ""),),
        ("test_client.py::test_a_create_given_up_while_connecting_is_not_sent_later",),
    ),
    Mutant(
        "every failed connection counts as never left",
        (Edit(TRANSPORT, "return not self.started and (", "return ("),),
        ("test_faults.py::test_a_create_is_sent_as_often_as_the_table_says[read timeout-fresh-sync]",),
    ),
    Mutant(
        "creates travel on kept connections",
        (Edit(SORA, "return self._send(connections.creates, wish)", "return self._send(connections.looks, wish)"),),
        ("test_client.py::test_creates_travel_on_fresh_connections",),
    ),
    Mutant(
        "a create goes with its caller",
        (
            Edit(
                ASYNC_SORA,
                "            run.unwanted = True\n            raise\n",
                "            task.cancel()\n            raise\n",
            ),
        ),
        ("test_cancellation.py::test_a_create_that_has_left_is_finished_and_written_down",),
    ),
    Mutant(
        "one shared gate for threads",
        (
            Edit(
                SORA,
                "self.look_gate, self.create_gate = threading.Semaphore(IN_FLIGHT), threading.Semaphore(IN_FLIGHT)",
                "self.look_gate = self.create_gate = threading.Semaphore(IN_FLIGHT)",
            ),
        ),
        ("test_promises.py::test_lost_creates_of_many_threads_do_not_block_each_others_looks",),
    ),
    Mutant(
        "one shared gate for tasks",
        (
            Edit(
                ASYNC_SORA,
                "self.look_gate, self.create_gate = asyncio.Semaphore(IN_FLIGHT), asyncio.Semaphore(IN_FLIGHT)",
                "self.look_gate = self.create_gate = asyncio.Semaphore(IN_FLIGHT)",
            ),
        ),
        ("test_cancellation.py::test_lost_replies_do_not_block_each_other",),
    ),
    Mutant(
        "a create's cool-down blocks looks",
        (
            Edit(
                "flow/exchange.py",
                "self._until.get(route, (0.0, None))",
                "next(iter(self._until.values()), (0.0, None))",
            ),
        ),
        ("test_promises.py::test_a_create_that_cools_down_leaves_the_list_alone",),
    ),
    # --- which task is ours -------------------------------------------------------------------------------------
    Mutant(
        "the window check is removed",
        (Edit(RECONCILE, "if echo is None or not window.holds(task):", "if echo is None:"),),
        ("test_flow_reconcile.py::test_what_need_not_be_ours_is_not_adopted",),
    ),
    Mutant(
        "the window goes by our own clock",
        (
            Edit(
                RECONCILE,
                "opens, closes = self.since + self.skew - CLOCK_SKEW,",
                "opens, closes = self.since - CLOCK_SKEW,",
            ),
        ),
        ("test_flow_reconcile.py::test_the_window_goes_by_the_gateways_clock",),
    ),
    Mutant(
        "a null echo is adopted",
        (Edit(RECONCILE, "return echo.prompt is not None and _plain(", "return echo.prompt is None or _plain("),),
        ("test_flow_reconcile.py::test_what_need_not_be_ours_is_not_adopted",),
    ),
    Mutant(
        "another size is adopted",
        (Edit(RECONCILE, '("operation", "width", "height", "n_frames", "n_variants")', '("operation",)'),),
        ("test_flow_reconcile.py::test_what_need_not_be_ours_is_not_adopted",),
    ),
    Mutant(
        "a list that was not read to its end is proof",
        (
            Edit(
                RECONCILE,
                'return tasks, LostReplyError("The list goes on further than was read")',
                "return tasks, None",
            ),
        ),
        ("test_flow_page.py::test_a_list_longer_than_is_read_proves_nothing",),
    ),
    Mutant(
        "what may be ours does not forbid sending",
        (Edit(RECONCILE, "            if may_match(task,", "            if matches(task,"),),
        ("test_flow_page.py::test_what_may_be_ours_keeps_us_from_sending_again",),
    ),
    # --- the key of a tool call ---------------------------------------------------------------------------------
    Mutant(
        "a tool call's key does not depend on the body",
        (Edit("tools/shared.py", "self.tool_call, digest(body))", "self.tool_call)"),),
        ("test_promises.py::test_a_tool_calls_key_is_of_where_whose_and_what",),
    ),
    Mutant(
        "a tool call's key does not depend on the thread",
        (Edit("tools/shared.py", "settings.account, self.thread, self.node,", "settings.account, self.node,"),),
        ("test_promises.py::test_a_tool_calls_key_is_of_where_whose_and_what",),
    ),
    # --- downloads ----------------------------------------------------------------------------------------------
    Mutant(
        "a part is moved into place unchecked",
        (Edit(DOWNLOAD, "    yield from _check(gateway, part, total)\n", ""),),
        ("test_downloads.py::test_what_is_no_whole_film_never_gets_the_name",),
    ),
    Mutant(
        "a part is moved into place unsynced",
        (Edit(PARTS, "            os.fsync(self._file)\n", ""),),
        ("test_flow_download.py::test_a_file_is_synced_before_it_has_its_name_and_the_folder_after",),
    ),
    Mutant(
        "If-Range is left out",
        (Edit(DOWNLOAD, ', "if-range": part.validator}', "}"),),
        ("test_downloads.py::test_a_changed_film_is_fetched_anew_and_whole",),
    ),
    Mutant(
        "two downloads write to one part",
        (Edit(PARTS, "        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "        pass\n"),),
        ("test_flow_download.py::test_a_part_that_somebody_is_at_is_left_to_them",),
    ),
    Mutant(
        "a download is not noted in the ledger",
        (Edit(DOWNLOAD, "    yield from note_end(gateway, task)\n", ""),),
        ("test_promises.py::test_a_download_finishes_its_submission",),
    ),
    # --- limits -------------------------------------------------------------------------------------------------
    Mutant(
        "the budget is looked at before the create is written down",
        (
            Edit(
                SQLITE,
                "            with self._turn() as db:\n                begun =",
                "            with self._turn() as db:\n"
                "                told = self._spent(db, submission)\n"
                "            if check is not None and self.find(submission.key) is None:\n"
                "                time.sleep(0.01)\n"
                "                check(Spent(told.thread + Decimal('0.5'), told.day + Decimal('0.5')))\n"
                "            check = None\n"
                "            with self._turn() as db:\n                begun =",
            ),
        ),
        ("test_limits.py::test_twenty_threads_with_a_budget_for_three_send_three",),
    ),
    Mutant(
        "a check that says no leaves its submission in the ledger",
        (Edit(SQLITE, "                    _roll_back(db)\n", '                    db.execute("commit")\n'),),
        ("test_limits.py::test_a_check_is_told_what_is_spent_and_its_no_leaves_no_trace",),
    ),
    Mutant(
        "what is unknown is free",
        (Edit(SQLITE, "state <> 'refused' and reuses is null and {}", "state = 'accepted' and reuses is null and {}"),),
        ("test_limits.py::test_what_may_be_paid_for_counts_and_what_was_refused_does_not",),
    ),
    Mutant(
        "nobody looks at the budget",
        (Edit(SQLITE, "                check(self._spent(db, intended))\n", "                pass\n"),),
        ("test_model.py::test_no_history_spends_more_than_its_budget",),
    ),
    Mutant(
        "what was refused is paid for",
        (Edit(SQLITE, " and state <> 'refused' and reuses is null and {}", " and reuses is null and {}"),),
        ("test_limits.py::test_what_may_be_paid_for_counts_and_what_was_refused_does_not",),
    ),
    Mutant(
        "one budget for every API key",
        (Edit(SQLITE, 'where gateway = ? and account = ? and currency = ?"', 'where ? <> ? and currency = ?"'),),
        ("test_limits.py::test_another_key_or_gateway_has_a_budget_of_its_own",),
    ),
    Mutant(
        "pounds are dollars",
        (Edit(SQLITE, 'account = ? and currency = ?"', "account = ? and ? <> ''\""),),
        ("test_limits.py::test_currencies_are_counted_apart_and_never_compared",),
    ),
    Mutant(
        "a resend costs nothing",
        (Edit(SUBMIT, "if lost or result.doubt is not None:", "if False:"),),
        ("test_limits.py::test_a_resend_is_held_against_the_budget_and_counted_beside_the_first",),
    ),
    Mutant(
        "a resend that was turned away stays paid for",
        (Edit(SUBMIT, "price=before if is_free else None", "price=None"),),
        ("test_limits.py::test_a_resend_that_was_turned_away_costs_nothing",),
    ),
    Mutant(
        "every further send costs again",
        (Edit(SUBMIT, "if lost or result.doubt is not None:", "if True:"),),
        ("test_limits.py::test_a_web_page_in_place_of_an_answer_is_not_counted_twice",),
    ),
    Mutant(
        "pruning lowers what the day has cost",
        (Edit(SQLITE, "(now - self._keep, now - _DAY)", "(now - self._keep, now)"),),
        ("test_limits.py::test_pruning_leaves_what_the_last_day_cost",),
    ),
    Mutant(
        "a caller's decimal context rounds the budget",
        (Edit("prices.py", "EXACT.add(total, EXACT.multiply(amount, Decimal(times)))", "total + amount * times"),),
        ("test_limits.py::test_an_amount_is_exact_whatever_the_callers_context",),
    ),
    Mutant(
        "a create costs what was asked for, whatever is made",
        (Edit(SUBMIT, "request, speaking.dialect.made(request))", "request, request)"),),
        ("test_limits.py::test_what_would_be_made_is_held_against_the_limits",),
    ),
    Mutant(
        "limits are held against a key that is known",
        (
            Edit(
                LIMITS,
                "    def check(spent: Spent) -> None:\n",
                "    if objection is not None:\n        raise objection\n\n    def check(spent: Spent) -> None:\n",
            ),
        ),
        ("test_limits.py::test_a_key_that_is_known_is_answered_whatever_the_limits_are_now",),
    ),
    Mutant(
        "a price that raises lets the create through",
        (Edit(LIMITS, "        objection = error\n", "        objection = None\n"),),
        ("test_limits.py::test_a_price_that_cannot_be_known_lets_nothing_through",),
    ),
    Mutant(
        "nobody is asked where the price is not known",
        (Edit(APPROVAL, "                return True\n", "                return False\n"),),
        (
            "test_approval.py::test_where_the_price_is_not_known_somebody_is_asked_and_the_tool_refuses",
            "test_approval.py::test_arguments_that_cannot_be_read_are_asked_about",
        ),
    ),
    Mutant(
        "generate may be repeated without a key",
        (Edit("flow/generate.py", "if error.retryable and not is_named:", "if False:"),),
        ("test_limits.py::test_generate_says_that_it_may_be_repeated_only_under_a_key",),
    ),
    # --- secrets ------------------------------------------------------------------------------------------------
    Mutant(
        "the API key is sent to another origin",
        (Edit(SHARED, "        if origin(url) != own.origin:\n            return {}\n", ""),),
        ("test_downloads.py::test_the_key_stays_with_the_gateways_own_origin",),
    ),
    Mutant(
        "a key that the gateway quotes is kept",
        (
            Edit(
                "flow/exchange.py",
                "reply = unquoted(gateway, (yield sent(call)))",
                "reply = yield sent(call)",
            ),
        ),
        ("test_secrets.py::test_check_07_the_key_comes_to_light_nowhere[compressed-sync]",),
    ),
)

UNCHANGED: Final = Mutant("nothing is changed", (), tuple(dict.fromkeys(test for m in MUTANTS for test in m.tests)))
"""Has to pass every test: a test that fails anyway catches nothing."""

_RUN: Final = """
import importlib, sys
import pytest
folder, modules, *arguments = sys.argv[1:]
code = pytest.main(arguments)
for name in ("sora_tools", *modules.split()):
    if not importlib.import_module(name).__file__.startswith(folder):
        sys.exit(f"{name} was not the mutated one")
sys.exit(code)
"""


def hunt(mutant: Mutant) -> Verdict:
    """Run a mutant's tests.

    Raises:
        RuntimeError: It cannot be made any more, or its tests could not be run.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sora-mutant-") as folder:
        shutil.copytree(PACKAGE, Path(folder, "sora_tools"))
        for edit in mutant.edits:
            apply(edit, Path(folder, "sora_tools"))
        said, code = _run(folder, mutant)
    failed = re.search(r"^FAILED (?:tests/)?(.+?)(?: - |$)", said, re.MULTILINE)
    if "was not the mutated one" in said or (not failed and (code or " passed" not in said)):
        raise RuntimeError(f"{mutant.name}: its tests could not be run.\n{said}")
    return Verdict(failed[1] if failed else "", time.monotonic() - begun, said)


def apply(edit: Edit, package: Path) -> None:
    """Change one file.

    Raises:
        RuntimeError: The text is not there, or there more than once.
    """
    path = package / edit.file
    text = path.read_text()
    if (times := text.count(edit.old)) != 1:
        raise RuntimeError(f"{edit.file} has this {times} times, and not once: {edit.old!r}")
    path.write_text(text.replace(edit.old, edit.new))
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()  # it goes by whole seconds


def _run(folder: str, mutant: Mutant) -> tuple[str, int]:
    """What pytest prints and its exit code."""
    modules = " ".join(f"sora_tools.{edit.file.removesuffix('.py').replace('/', '.')}" for edit in mutant.edits)
    tests = [f"tests/{test}" for test in mutant.tests]
    plugins = ("no:cacheprovider", "pytest_asyncio.plugin", "pytest_timeout")  # loading all there are takes seconds
    options = ["-x", "-q", "-m", "", "--timeout=20", "--color=no", "-rf", *(f"-p{plugin}" for plugin in plugins)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _RUN, folder, modules, *options, *tests],
        cwd=HERE.parent,
        env={**os.environ, "PYTHONPATH": folder, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:  # a test that failed may have left a thread or a child to wait for ever
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    return said, process.returncode


def main() -> int:
    """Print who caught which mutant. The exit code is 1 where one survived."""
    width = max(len(mutant.name) for mutant in MUTANTS)
    survived = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        unchanged, *verdicts = pool.map(hunt, (UNCHANGED, *MUTANTS))
    if unchanged.caught_by:
        sys.stdout.write(unchanged.said)
        return 1
    for mutant, verdict in zip(MUTANTS, verdicts, strict=True):
        survived += not verdict.caught_by
        sys.stdout.write(f"{mutant.name:{width}}  {verdict.seconds:5.1f} s  {verdict.caught_by or 'SURVIVED'}\n")
    sys.stdout.write(f"{len(MUTANTS) - survived} of {len(MUTANTS)} mutants were caught\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
