"""Every named mutant is caught. Left out of ``make test``; ``make long`` and ``.ci/run`` run it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from mutants import AT_ONCE, MUTANTS, PACKAGE, PATIENCE, UNCHANGED, Mutant, Verdict, hunt

HERE = Path(__file__).parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_still_be_made(mutant: Mutant) -> None:
    for edit in mutant.edits:
        assert (PACKAGE / edit.file).read_text().count(edit.old) == 1, f"{edit.file}: {edit.old!r}"
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert re.search(rf"def {name.partition('[')[0]}\(", (HERE / file).read_text()), test


@pytest.fixture(scope="module")
def hunts() -> Iterator[dict[str, Future[Verdict]]]:
    """All of them, as many at once as there are cores to be had."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {mutant.name: pool.submit(hunt, mutant) for mutant in (UNCHANGED, *MUTANTS)}
        pool.shutdown(cancel_futures=True)


@pytest.mark.long
@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant, hunts: dict[str, Future[Verdict]]) -> None:
    verdict = hunts[mutant.name].result()
    assert verdict.caught_by, verdict.said


@pytest.mark.long
@pytest.mark.timeout(2 * PATIENCE)
def test_what_is_not_changed_passes(hunts: dict[str, Future[Verdict]]) -> None:
    verdict = hunts[UNCHANGED.name].result()
    assert not verdict.caught_by, verdict.said
