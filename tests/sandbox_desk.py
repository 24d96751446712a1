"""What the tests of the sandbox share: requests to send, and one served sandbox for a file of tests.

A file makes the fixtures it needs its own by name: ``world = sandbox_desk.world``.
"""

from __future__ import annotations

import json

import httpx
import pytest
from documented import EXAMPLE

from sora_tools.sandbox import Sandbox, World

PATH = "/sora/backend/video_gen"
KEY = {"Authorization": "Bearer anything"}
SMALL = {**EXAMPLE, "width": 64, "height": 48, "n_frames": 6}


# ---------------------------------------------------------------- without a socket


@pytest.fixture
def world(clock):
    return World(clock=clock, by_id=True)


def create(world, **changes):
    body = json.dumps({**EXAMPLE, **changes}).encode()
    return world.receive("POST", PATH, headers=KEY, body=body)


def look(world, task_id):
    return world.receive("GET", f"{PATH}/{task_id}", headers=KEY).json()


def listed(world, **query):
    return world.receive("GET", PATH, headers=KEY, query=query).json()


# ---------------------------------------------------------------- over a socket


def client_of(sandbox):
    """A client with a key; it has no use for certificates, and loading them takes longer than most tests."""
    return httpx.Client(base_url=sandbox.base_url, headers=KEY, timeout=20, verify=False)


@pytest.fixture(scope="module")
def served():
    """A sandbox whose tasks are done at once, and its client."""
    with Sandbox(render=False, world=World(by_id=True, duration=0)) as sandbox, client_of(sandbox) as client:
        yield sandbox, client


@pytest.fixture
def sandbox(served):
    """The served sandbox, with nothing remembered."""
    served[0].world.reset()
    return served[0]


@pytest.fixture
def http(sandbox, served):
    """The client of the served sandbox."""
    return served[1]


@pytest.fixture(scope="module")
def web():
    """A client without a key, for any address."""
    with httpx.Client(timeout=20, verify=False) as client:
        yield client


def start(http, **changes):
    return http.post(PATH, json={**SMALL, **changes}).json()["id"]


def video_url(http, **changes):
    return http.get(f"{PATH}/{start(http, **changes)}").json()["generations"][0]["url"]
