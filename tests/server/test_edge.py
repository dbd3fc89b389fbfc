"""Careful headers; the description of the API and metrics only where they should be."""

import pytest
from pydantic import ValidationError

from headrace.edge_settings import EdgeSettings
from headrace.graphs.http_entry import CorsEntry
from headrace.settings import Settings
from tests.support.apps import app_client, settings_for, write_manifest

KEY = "a-key-of-the-tests-1"
SENT = {"x-api-key": KEY}


@pytest.fixture
def settings(database_url, tmp_path):
    def make(http=None, **more):
        manifest = write_manifest(tmp_path, **({"http": http} if http else {}))
        return settings_for(database_url, manifest, **more)

    return make


async def test_answers_are_no_pages_and_nobody_keeps_them(settings):
    async with app_client(settings()) as client:
        run = {"assistant_id": "ctx", "input": {}}
        answers = [
            await client.post("/threads", json={}),
            await client.get("/threads/x"),
            await client.get("/nothing"),
            await client.get("/openapi.json"),
            await client.post("/runs/stream", json=run),
            await client.post("/runs/wait", json=run),
            await client.head("/ok"),
        ]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff", answer.url
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] in ("no-store", "no-cache"), answer.url
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "strict-transport-security" not in answer.headers
        page = await client.get("/docs")
        assert "script-src 'self' 'sha256-" in page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        kept = await client.get("/docs/assets/favicon.png")
        assert kept.headers["cache-control"] == "public, max-age=86400"
    async with app_client(settings(edge={"hsts_seconds": 3600})) as client:
        told = (await client.get("/ok")).headers["strict-transport-security"]
        assert told == "max-age=3600"


@pytest.mark.parametrize(
    ("more", "docs", "described"),
    [
        ({}, 200, 200),
        ({"api_keys": KEY}, 200, 401),
        ({"auth": "none"}, 404, 404),
        ({"auth": "none", "edge": {"docs": "on"}}, 200, 200),
        ({"edge": {"docs": "off"}}, 404, 404),
        ({"api_keys": KEY, "edge": {"docs": "off"}}, 404, 404),
    ],
)
async def test_who_reads_the_description(settings, more, docs, described):
    async with app_client(settings(**more)) as client:
        assert (await client.get("/docs")).status_code == docs
        assert (await client.get("/redoc")).status_code == docs
        assert (await client.get("/openapi.json")).status_code == described
        linked = (await client.get("/")).json()
        assert ("docs" in linked) == (docs == 200)
        if described == 401:
            assert (await client.get("/openapi.json", headers=SENT)).status_code == 200


@pytest.mark.parametrize(
    ("more", "without", "with_key"),
    [
        ({}, 200, 200),
        ({"api_keys": KEY}, 401, 200),
        ({"auth": "none"}, 404, 404),
        ({"auth": "none", "edge": {"metrics": "on"}}, 200, 200),
        ({"api_keys": KEY, "edge": {"metrics": "on"}}, 200, 200),
        ({"api_keys": KEY, "edge": {"metrics": "off"}}, 404, 404),
    ],
)
async def test_who_reads_metrics(settings, more, without, with_key):
    async with app_client(settings(**more)) as client:
        assert (await client.get("/metrics")).status_code == without
        assert (await client.get("/metrics", headers=SENT)).status_code == with_key
        bearer = {"Authorization": f"Bearer {KEY}"}
        assert (await client.get("/metrics", headers=bearer)).status_code == with_key


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"trusted_proxies": "*"}, "forge"),
        ({"trusted_proxies": "10.0.0.1/8"}, "host bits"),
        ({"trusted_proxies": "proxy.example"}, "no network"),
        ({"allowed_hosts": "https://a.example"}, "no name of a host"),
        ({"allowed_hosts": "a.example:80"}, "no name of a host"),
    ],
)
def test_what_is_no_network_host_or_origin_is_refused_at_start(values, sentence):
    with pytest.raises(ValidationError, match=sentence):
        EdgeSettings(**values)


ORIGINS = [
    ("a.example", "no origin"),
    ("null", "no origin"),
    ("http://[a", "no origin"),
    ("https://a.example/", "no origin"),
    ("https://A.example", "write https://a.example"),
    ("https://a.example:443", "write https://a.example"),
    ("http://b\u00fccher.example:80", "write http://xn--bcher-kva.example"),
    ("https://*.example.com", "allow_origin_regex"),
]


@pytest.mark.parametrize(("origin", "sentence"), ORIGINS)
def test_an_origin_that_no_browser_sends_is_refused_in_setting_and_manifest_alike(origin, sentence):
    with pytest.raises(ValidationError, match=sentence) as setting:
        EdgeSettings(allowed_origins=f"https://b.example, {origin}")
    with pytest.raises(ValidationError, match=sentence) as manifest:
        CorsEntry.model_validate({"allow_origins": ["https://b.example", origin]})
    said = [caught.value.errors()[0]["msg"] for caught in (setting, manifest)]
    assert said[0] == said[1].replace("Value error, ", "Value error, allowed_origins: ")


@pytest.mark.parametrize("origin", ["*", "https://a.example", "http://localhost:3000"])
def test_an_origin_that_browsers_send_is_taken(origin):
    assert EdgeSettings(allowed_origins=origin).origins == (origin,)
    assert CorsEntry.model_validate({"allow_origins": [origin]}).allow_origins == (origin,)


def test_the_earlier_name_of_the_proxies_is_refused():
    with pytest.raises(ValidationError, match="HEADRACE_EDGE__TRUSTED_PROXIES"):
        Settings.model_validate({"server": {"forwarded_allow_ips": "*"}})
