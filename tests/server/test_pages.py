"""``/``, ``/docs`` and ``/redoc``: what a browser gets, without the internet."""

import re
import subprocess

import pytest

from tests.support.apps import app_client, settings_for, write_manifest
from tests.support.tools import require_tool

KEY = "k" * 32
#: What a page loads.
LOADED = re.compile(r"""(?:src|href)=["']([^"']+)["']""")


@pytest.fixture
def manifest(tmp_path):
    return write_manifest(tmp_path)


async def test_the_root_points_to_docs_and_health(database_url, manifest):
    async with app_client(settings_for(database_url, manifest)) as client:
        told = (await client.get("/")).json()
        assert told["name"] == "headrace"
        for name in ("docs", "openapi", "info", "health", "ok"):
            assert (await client.get(told[name])).status_code in (200, 503), name
        page = await client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.headers["content-type"].startswith("text/html")
        assert 'href="/docs"' in page.text
        assert (await client.head("/")).status_code == 200


@pytest.mark.parametrize("keys", [{}, {"api_keys": KEY}])
async def test_the_pages_load_from_this_server_alone(database_url, manifest, keys):
    async with app_client(settings_for(database_url, manifest, **keys)) as client:
        # Of what it is it tells everybody; of the API only those who have a key.
        assert (await client.get("/")).status_code == 200
        for path in ("/docs", "/redoc"):
            page = await client.get(path)
            assert page.status_code == 200
            assert "://" not in page.text.replace("http://www.w3.org", "")
            loaded = set(LOADED.findall(page.text))
            assert len(loaded) >= 2
            for address in loaded:
                answer = await client.get(address)
                assert answer.status_code == 200
                assert len(answer.content) > 1000
        described = await client.get("/openapi.json")
        assert described.status_code == (401 if keys else 200)
        if keys:
            described = await client.get("/openapi.json", headers={"x-api-key": KEY})
            assert "ApiKey" in described.json()["components"]["securitySchemes"]
        missing = await client.get("/docs/assets/passwd")
        assert missing.status_code == 404
        assert "swagger-ui.css" in missing.json()["detail"]


async def test_no_page_describes_what_is_disabled(database_url, tmp_path):
    manifest = write_manifest(tmp_path, http={"disable_meta": True})
    async with app_client(settings_for(database_url, manifest)) as client:
        told = (await client.get("/")).json()
        assert "docs" not in told
        assert "health" in told
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert (await client.get(path)).status_code == 404


async def test_below_a_prefix_the_pages_load_from_there(database_url, tmp_path):
    manifest = write_manifest(tmp_path, http={"mount_prefix": "/api"})
    async with app_client(settings_for(database_url, manifest)) as client:
        page = await client.get("/api/docs")
        for address in LOADED.findall(page.text):
            assert (await client.get(address)).status_code == 200
        assert "'/api/openapi.json'" in page.text
        assert (await client.get("/api/openapi.json")).status_code == 200
        assert (await client.get("/api/")).json()["docs"] == "/api/docs"


@pytest.mark.acceptance
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_browser_without_the_internet_shows_the_api(forms_server, path):
    chromium = require_tool("chromium-headless-shell", remedy="make ci-tools")
    shown = subprocess.run(
        [
            chromium,
            "--no-sandbox",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--virtual-time-budget=20000",
            "--dump-dom",
            forms_server.url + path,
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    ).stdout
    assert "Send a message and get the reply" in shown
    assert "Create a run on a thread, wait for the end" in shown
