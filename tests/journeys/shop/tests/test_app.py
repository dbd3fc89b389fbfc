"""The shop's own tests."""

from fastapi.testclient import TestClient
from main import app


def test_chat():
    with TestClient(app) as client:
        answer = client.post("/chat", json={"message": "hi", "thread_id": "1"})
        assert answer.status_code == 200
        made = client.post("/threads", json={"title": "Tea"}).json()
        answer = client.get(f"/threads/{made['id']}")
        assert answer.json() == made
        assert answer.headers["x-shop"] == "open"
