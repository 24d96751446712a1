"""Rules of the house that would otherwise live in a reviewer's head."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections import defaultdict
from pathlib import Path

import sora_tools

PACKAGE = Path(sora_tools.__file__).parent
OURS = {"pydantic", "pydantic_core", "sora_tools", *sys.stdlib_module_names} - {"sqlite3"}
HOMES = {
    "httpx": {"client"},
    "httpx_sse": {"client"},
    "tenacity": {"retry.py"},
    "langchain_core": {"tools", "demo.py"},
    "langchain": {"demo.py"},
    "av": {"media", "sandbox"},
    "PIL": {"media", "sandbox"},
    "starlette": {"sandbox"},
    "uvicorn": {"mcp", "sandbox"},
    "mcp": {"mcp"},
    "mcp_types": {"mcp"},
    "rich": {"screen.py"},
    "sqlite3": {"ledger"},
    "typer": {"cli"},
}


def guests() -> dict[str, set[str]]:
    """Third-party packages and the rooms that import them."""
    rooms = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                if (package := name.partition(".")[0]) not in OURS:
                    rooms[package].add(room)
    return rooms


def test_every_guest_has_one_home() -> None:
    for package, rooms in guests().items():
        assert rooms <= HOMES.get(package, set()), f"{package} is imported in {rooms}"


def test_errors_imports_nothing_of_ours() -> None:
    tree = ast.parse((PACKAGE / "errors.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level > 0]


def test_check_12_public_names_are_sorted_complete_and_there() -> None:
    assert sora_tools.__all__ == sorted(sora_tools.__all__)
    assert set(sora_tools.__all__) == {name for names in sora_tools._HOMES.values() for name in names}
    assert all(getattr(sora_tools, name).__name__ == name for name in sora_tools.__all__)
    assert set(dir(sora_tools)) == {*sora_tools.__all__, "__version__"}


def test_the_type_checker_sees_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(sora_tools.__all__)


def test_every_module_says_what_it_is() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "sora_tools."):
        if not module.name.endswith("__main__"):
            assert importlib.import_module(module.name).__doc__, module.name


def test_errors_are_one_tree_with_one_code_each() -> None:
    from sora_tools import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SoraError)]
    codes = [kind.code for kind in kinds if kind is not errors.SoraError]
    assert len(codes) == len(set(codes)) == 14
    for kind in kinds[1:]:
        assert f"{kind.__name__}" in (errors.__doc__ or "")
        assert f" {kind.code} " in (errors.__doc__ or "")


def test_errors_survive_pickling() -> None:
    import pickle

    from sora_tools import BusyError, WaitTimeoutError

    error = BusyError("later", hint="wait", retry_after=3.0, charged="unknown", key="k")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.describe(), str(again)) == (BusyError, error.describe(), "later. wait")
    assert pickle.loads(pickle.dumps(WaitTimeoutError("x", task=1))).task == 1
