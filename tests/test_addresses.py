"""Addresses: what leads where, in every spelling, and who may be led there."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from sora_tools import ConfigurationError, CreateVideoTool, DownloadError, Sora
from sora_tools.addresses import Site, joined, loopback, near, objection, origin, private, site
from sora_tools.client.transport import Left
from sora_tools.config import settings

GATEWAY = "https://gateway.test/proxy"
KEY = "sk-secret-key"

PRIVATE = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0X7F.1",
    "0x7f.0.0.1",
    "0177.0.0.01",
    "127.0.0.1.",
    "127.0.0.1...",
    "0",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "192.168.257",
    "3232235777",
    "169.254.169.254",
    "169.254.1",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:10.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::808:808]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001::1]",
    "[2001:db8::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[FE80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "localhost",
    "LocalHost",
    "localhost.",
    "a.localhost",
    "localhost.localdomain",
    "printer.local",
    "metadata.google.internal",
    "METADATA.GOOGLE.INTERNAL.",
    "router.home.arpa",
    "metadata",
    "intranet",
    "１２７.０.０.１",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "ｌｏｃａｌｈｏｓｔ",
    "ⓛocalhost",
    "loc\u00adalhost",
    "local\u200bhost",
]

PUBLIC = [
    "cdn.test",
    "videos.example.",
    "8.8.8.8",
    "134744072",
    "0x08080808",
    "172.32.0.1",
    "100.128.0.1",
    "169.253.1.1",
    "192.169.1.1",
    "[2606:4700::1111]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::8.8.8.8]",
    "[2002:808:808::]",
    "localhost.example.com",
    "mylocal.test",
    "internal.example",
    "10.0.0.1.example",
    "127-0-0-1.example",
    "xn--bcher-kva.example",
    "bücher.example",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_host_is_known_in_every_spelling(host: str) -> None:
    assert private(host.strip("[]"))
    assert "private host" in (objection(f"https://{host}/1.mp4", GATEWAY) or "")
    assert "private host" in (objection(f"https://{host}:8443/1.mp4", GATEWAY) or "")
    assert objection(f"https://{host}/1.mp4", GATEWAY, private_addresses=True) is None
    assert objection(f"http://{host}/1.mp4", GATEWAY, private_addresses=True) == "is not https"


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_host_is_not_taken_for_a_private_one(host: str) -> None:
    assert not private(host.strip("[]"))
    assert objection(f"https://{host}/1.mp4", GATEWAY) is None
    assert objection(f"http://{host}/1.mp4", GATEWAY) == "is not https"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "1.mp4",
        "//cdn.test/1.mp4",
        "https:",
        "https:1.mp4",
        "https:///1.mp4",
        "https://:443/1.mp4",
        "https://./1.mp4",
        "https://user@cdn.test/1.mp4",
        "https://user:word@cdn.test/1.mp4",
        "https://@cdn.test/1.mp4",
        "https://cdn.test@10.0.0.1/1.mp4",
        "https://cdn.test\\@10.0.0.1/1.mp4",
        "https://10.0.0.1\\.cdn.test/1.mp4",
        "https://cdn.test\\/1.mp4",
        "https://cdn test/1.mp4",
        "https://cdn.test\n/1.mp4",
        "https://cdn.test/1.mp4\r\nx: y",
        "ht\ntps://cdn.test/1.mp4",
        "https://cdn.test:0/1.mp4",
        "https://cdn.test:65536/1.mp4",
        "https://cdn.test:-1/1.mp4",
        "https://cdn.test:44 3/1.mp4",
        "https://cdn.test:x/1.mp4",
        "https://127%2e0%2e0%2e1/1.mp4",
        "https://%31%32%37.0.0.1/1.mp4",
        "https://[::1/1.mp4",
        "https://::1/1.mp4",
        "https://[fe80::1%25eth0]/1.mp4",
        "https://[v1.x]/1.mp4",
        "https://x[::1]/1.mp4",
        "https://[::1]x/1.mp4",
        "https://cdn.test\uff0f.evil/1.mp4",
        "file:///etc/passwd",
        "ftp://cdn.test/1.mp4",
        "gopher://127.0.0.1:25/x",
        "data:video/mp4;base64,AAAA",
        "javascript:alert(1)",
    ],
)
def test_what_can_be_read_in_two_ways_is_no_address(url: str) -> None:
    assert site(url) is None
    assert "not https" in (objection(url, GATEWAY, private_addresses=True) or "")


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("https://CDN.test./x", Site("https", "cdn.test", 443)),
        ("HTTPS://cdn.test:/x", Site("https", "cdn.test", 443)),
        ("http://cdn.test:8080", Site("http", "cdn.test", 8080)),
        ("https://0x7f.1?x#y", Site("https", "127.0.0.1", 443)),
        ("https://[0:0::1]:1/x", Site("https", "::1", 1)),
        ("https://a_b.test/x", Site("https", "a_b.test", 443)),
    ],
)
def test_a_host_has_one_spelling(url: str, where: Site) -> None:
    assert site(url) == where


@pytest.mark.parametrize(
    ("url", "gateway", "why"),
    [
        ("http://gateway.test/1.mp4", GATEWAY, None),
        ("http://GATEWAY.test.:8080/1.mp4", GATEWAY, None),
        ("http://www.gateway.test/1.mp4", GATEWAY, "is not https"),
        ("http://10.0.0.5:9000/1.mp4", "http://10.0.0.5:3000", None),
        ("http://10.0.0.6/1.mp4", "http://10.0.0.5", "is not https"),
        ("https://10.0.0.6/1.mp4", "http://10.0.0.5", "private host"),
        ("https://127.0.0.1/1.mp4", "http://10.0.0.5", "private host"),
        ("http://127.0.0.1/1.mp4", GATEWAY, "is not https"),
        ("https://127.0.0.1/1.mp4", GATEWAY, "private host"),
        ("http://127.0.0.1:9/1.mp4", "http://127.0.0.1:8", None),
        ("http://localhost:9/1.mp4", "http://127.0.0.1:8", None),
        ("http://[::1]:9/1.mp4", "http://localhost:8", None),
        ("http://2130706433/1.mp4", "http://a.localhost", None),
        ("https://10.0.0.6/1.mp4", "http://127.0.0.1:8", "private host"),
        ("https://nas/1.mp4", "http://nas", None),
        ("https://nas2/1.mp4", "http://nas", "private host"),
        ("https://user@gateway.test/1.mp4", GATEWAY, "not https"),
    ],
)
def test_a_gateway_opens_its_own_host_and_one_on_this_machine_this_machine(
    url: str, gateway: str, why: str | None
) -> None:
    found = objection(url, gateway)
    assert found is None if why is None else why in (found or "")
    assert near(url, gateway) is (why is None)


def test_this_machine_is_known() -> None:
    assert all(map(loopback, ["localhost", "x.localhost.", "127.9", "::1", "::ffff:127.0.0.1"]))
    assert not any(map(loopback, ["10.0.0.1", "localhost.test", "mylocalhost", "0.0.0.0", "::", ""]))


def test_a_location_leads_on_from_an_address() -> None:
    assert joined("https://a.test/x/1", "../2") == "https://a.test/2"
    assert joined("https://a.test/x/1", "//b.test/2") == "https://b.test/2"
    assert joined("https://a.test/", "http://[oops") is None
    assert origin("HTTPS://A.test/x") == "https://a.test:443"


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["largest_reply", "largest_video"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 1e9, float("inf"), "1000", None, True])
def test_a_ceiling_is_a_whole_number_of_bytes(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        settings("https://g.test", KEY, **{name: value})
    with pytest.raises(ConfigurationError, match=name):
        Sora(base_url="https://g.test", api_key=KEY, **{name: value})


@pytest.mark.parametrize("value", [None, 1, "false", "yes"])
def test_a_switch_is_on_or_off(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="private_addresses"):
        Sora(base_url="https://g.test", api_key=KEY, private_addresses=value)


def test_the_ceilings_are_what_the_page_says() -> None:
    made = settings("https://g.test", KEY)
    assert (made.largest_reply, made.largest_video, made.private_addresses) == (32 * 2**20, 4 * 2**30, False)
    given = {"largest_reply": 1, "largest_video": 2, "private_addresses": True}
    own = CreateVideoTool(base_url="http://10.0.0.1", api_key=KEY, **given).sora.gateway.settings
    assert (own.largest_reply, own.largest_video, own.private_addresses) == (1, 2, True)


# --- the machine that a name turns out to be ----------------------------------------------------------------------


class Wire:
    """A connection just made, as httpcore shows it."""

    def __init__(self, peer: Any) -> None:
        self.peer, self.closed = peer, False

    def get_extra_info(self, name: str) -> Any:
        return self.peer if name == "server_addr" else None

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def connected(left: Left, host: str, peer: Any) -> Wire:
    wire = Wire(peer)
    left.note("connection.connect_tcp.started", {"host": host})
    left.note("connection.connect_tcp.complete", {"return_value": wire})
    return wire


@pytest.mark.parametrize("host", [host for host in PRIVATE if host.strip("[]")[0] in "0123456789:fF"])
def test_a_name_that_turns_out_to_be_a_private_machine_is_left(host: str) -> None:
    left = Left(guarded="cdn.test")
    wire = Wire((host.strip("[]"), 443))
    left.note("connection.connect_tcp.started", {"host": "cdn.test"})
    with pytest.raises(DownloadError, match=r"cdn\.test .* private_addresses=True") as caught:
        left.note("connection.connect_tcp.complete", {"return_value": wire})
    assert (wire.closed, left.started, caught.value.retryable) == (True, False, False)


@pytest.mark.parametrize("peer", [("fe80::1%eth0", 443, 0, 2), None, ("", 443)], ids=str)
async def test_a_machine_that_cannot_be_told_is_a_private_one(peer: Any) -> None:
    left, wire = Left(guarded="cdn.test"), Wire(peer)
    await left.note_later("connection.connect_tcp.started", {"host": "cdn.test"})
    with pytest.raises(DownloadError):
        await left.note_later("connection.connect_tcp.complete", {"return_value": wire})
    assert wire.closed


@pytest.mark.parametrize(
    ("guarded", "host", "peer"),
    [
        ("cdn.test", "cdn.test", "8.8.8.8"),
        ("cdn.test", "cdn.test", "2606:4700::1111"),
        ("cdn.test", "proxy", "10.0.0.1"),
        ("", "cdn.test", "10.0.0.1"),
    ],
    ids=["public", "public 6", "a proxy", "not guarded"],
)
def test_any_other_connection_is_left_alone(guarded: str, host: str, peer: str) -> None:
    assert not connected(Left(guarded=guarded), host, (peer, 443)).closed


def test_a_failed_connection_is_not_judged() -> None:
    left = Left(guarded="cdn.test")
    left.note("connection.connect_tcp.started", {"host": "cdn.test"})
    left.note("connection.connect_tcp.failed", {"exception": OSError()})
    left.note("http11.send_request_headers.started", {"request": SimpleNamespace(method=b"GET")})
    assert left.started


# --- what a model may name ----------------------------------------------------------------------------------------


def made(url: Any, base_url: str = "https://gateway.test/proxy", **given: Any) -> tuple[dict[str, Any], list[Any]]:
    """What the tool answers to one image, and what reached the gateway."""
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={"id": "task_1"})

    tool = CreateVideoTool(
        base_url=base_url, api_key=KEY, ledger="memory", transport=httpx.MockTransport(answer), **given
    )
    items = [{"url": "https://images.test/a.png"}, {"url": url}]
    return json.loads(tool.invoke({"prompt": "fly man", "inpaint_items": items})), sent


REFUSED = [
    ("http://images.test/a.png", "is not https"),
    ("http://10.0.0.1/a.png", "is not https"),
    ("https://10.0.0.1/a.png", "10.0.0.1, which is a private host"),
    ("https://2130706433/a.png", "127.0.0.1, which is a private host"),
    ("https://[::ffff:169.254.169.254]/a.png", "private host"),
    ("https://metadata.google.internal/computeMetadata/v1/", "metadata.google.internal, which is a private host"),
    ("https://user:word@images.test/a.png", "not a plain address"),
    ("https://images.test@10.0.0.1/a.png", "not a plain address"),
    ("http://gateway.test/a.png", "is not https"),
    ("http://gateway.test:8080/a.png", "is not https"),
    ("HTTP://IMAGES.test/a.png", "is not https"),
    (f"http://images.test/{'a' * 500}", "is not https"),
]


@pytest.mark.parametrize(("url", "why"), REFUSED, ids=[url[:40] for url, _ in REFUSED])
def test_check_11_a_model_may_not_name_it(url: str, why: str) -> None:
    answer, sent = made(url)
    error = answer["error"]
    assert (sent, error["code"], error["charged"]) == ([], "invalid_request", "no")
    assert f"inpaint_items.1.url: '{url[:60]}" in error["message"]
    assert why in error["message"]
    assert "data:image/...;base64" in error["message"]
    assert "Nothing was started and nothing was charged" in error["hint"]
    assert len(error["message"]) < 400


@pytest.mark.parametrize("url", ["data:image/x,y;base64,AAAA", f"data:text/html;base64,{'A' * 9000}"], ids=["x", "y"])
def test_data_that_is_no_image_is_refused_and_not_repeated(url: str) -> None:
    answer, sent = made(url)
    assert (sent, answer["error"]["code"]) == ([], "invalid_request")
    assert len(answer["error"]["message"]) < 600


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://images.test/b.png?signature=x#y",
        "HTTPS://Images.test./b.png",
        "https://gateway.test/media/1.png",
        "https://gateway.test:8443/media/1.png",
        "data:image/png;base64,iVBORw0KGgo=",
        "DATA:image/svg+xml;charset=utf-8;BASE64,PHN2Zz4=",
    ],
)
def test_a_model_may_name_it(url: str) -> None:
    answer, sent = made(url)
    assert answer["task_id"] == "task_1"
    assert sent[0]["inpaint_items"][1].get("url", "") == url


@pytest.mark.parametrize("base_url", ["http://10.0.0.5:3000", "http://nas", "http://127.0.0.1:3000/proxy"])
def test_the_gateways_own_origin_is_always_allowed(base_url: str) -> None:
    own = base_url.removesuffix("/proxy")
    assert made(f"{own}/media/1.png", base_url)[0]["task_id"] == "task_1"
    assert "error" in made(f"{own}1/media/1.png", base_url)[0], "another port, or another host"


def test_the_operator_may_open_private_hosts_to_a_model() -> None:
    assert made("https://10.0.0.1/a.png", private_addresses=True)[0]["task_id"] == "task_1"
    assert "error" in made("http://10.0.0.1/a.png", private_addresses=True)[0]


def test_a_program_is_the_operator() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"id": "task_1"}))
    with Sora(base_url="https://g.test", api_key=KEY, ledger="memory", transport=transport) as sora:
        assert sora.create("fly man", inpaint_items=[{"url": "http://10.0.0.1/a.png"}]).task_id == "task_1"
