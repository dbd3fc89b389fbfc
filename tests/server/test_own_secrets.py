"""The secrets of the server itself are masked by their text, in whatever they stand."""

from pydantic import SecretStr

from headrace.observability.masking import is_plain, mask_secrets, mask_text
from headrace.server.own_secrets import mask_own
from headrace.settings import Settings


def test_a_secret_of_the_settings_or_the_environment_is_masked_without_any_form(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "planted model key")
    monkeypatch.setenv("SOME_TOKEN", "/run/secrets/token")
    monkeypatch.setenv("TOKENIZERS_KEY", "false")
    mask_own(
        Settings.model_validate(
            {
                "api_keys": "first-planted-key-0001, second-planted-key-0002",
                "database": {
                    "url": SecretStr("postgresql+psycopg://ada:planted%40pass@db/app"),
                    "migration_url": SecretStr("host=db user=ada password='planted two'"),
                },
                "webhooks": {
                    "signing_secrets": "whsec_cGxhbnRlZC1zZWNyZXQtb2YtMjQtYnl0ZXMtYW5kLW1vcmU="
                },
            }
        )
    )
    for secret in (
        "planted model key",
        "first-planted-key-0001",
        "second-planted-key-0002",
        "planted%40pass",
        "planted@pass",
        "planted two",
        "cGxhbnRlZC1zZWNyZXQtb2YtMjQtYnl0ZXMtYW5kLW1vcmU=",
    ):
        said = mask_text(f"it said {secret} aloud")
        assert said == "it said *** aloud"
        assert not is_plain({"event": f"x{secret}x"}, 1000)
        assert mask_secrets(None, "info", {"event": "e", "a": [f"x{secret}"]})["a"] == ["x***"]
    assert mask_text("/run/secrets/token is false") == "/run/secrets/token is false"
    assert "planted" not in repr(Settings.model_validate({"api_keys": "planted-key-00000001"}))
