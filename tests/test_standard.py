"""LangChain's own tests of both tools, offline: check 1 of test_reviewer_checks.py."""

from __future__ import annotations

from typing import Any

import pytest
from fake_gateway import KEY, PROMPT, FakeGateway, task
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from sora_tools import CreateVideoTool, QueryVideoTool

pytestmark = pytest.mark.usefixtures("no_sockets")
ENVIRONMENT = (
    {"SORA_BASE_URL": "https://gateway.test/v1/", "SORA_API_KEY": KEY},
    {},
    {"base_url": "https://gateway.test", "api_key": KEY},
)


class _Create:
    tool_constructor = CreateVideoTool
    init_from_env_params = ENVIRONMENT
    tool_invoke_params_example = PROMPT

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return FakeGateway().settings()


class _Query:
    tool_constructor = QueryVideoTool
    init_from_env_params = ENVIRONMENT
    tool_invoke_params_example = {"task_id": "task_1"}  # noqa: RUF012  # never changed

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return FakeGateway(tasks=[task()]).settings()


class TestCheck01CreateUnit(_Create, ToolsUnitTests):
    pass


class TestCheck01CreateIntegration(_Create, ToolsIntegrationTests):
    pass


class TestCheck01QueryUnit(_Query, ToolsUnitTests):
    pass


class TestCheck01QueryIntegration(_Query, ToolsIntegrationTests):
    pass
