"""Which setting which process gets."""

from cli.environment import KEPT_ELSEWHERE, SECRETS, environment_of_child, without_secrets_of_others
from workers.settings import Settings

OTHERS = {"DIRECT_URL": "postgresql://owner", "EDITOR": "vi", "MY_TOKEN": "t"}


def test_every_secret_setting_says_who_uses_it() -> None:
    secret = {
        name.upper()
        for name, field in Settings.model_fields.items()
        if "Secret" in repr(field.annotation) or "Secret" in repr(field.metadata)
    }
    assert secret - SECRETS.keys() == set()
    assert {"DATABASE_URL", "DIRECT_URL", "REDIS_URL"} <= SECRETS.keys()


def test_a_process_gets_settings_and_what_any_program_needs() -> None:
    found = {"PATH": "/bin", "lc_time": "C", "HTTPS_PROXY": "http://p", "TZ": "UTC", "PORT": "1"}
    assert environment_of_child("web", found | OTHERS, foreign_database=False) == found


def test_what_libpq_reads_is_for_a_database_of_somebody_else() -> None:
    found = {"PGSSLROOTCERT": "/ca.pem"}
    assert environment_of_child("worker", found, foreign_database=False) == {}
    assert environment_of_child("worker", found, foreign_database=True) == found


def test_that_a_key_is_set_is_known_to_those_who_offer_what_it_buys() -> None:
    found = {"ANTHROPIC_API_KEY": "secret", "YOUTUBE_API_KEY": "", "SENTRY_DSN": "theirs"}
    assert without_secrets_of_others("web", found) == {"ANTHROPIC_API_KEY": KEPT_ELSEWHERE, "SENTRY_DSN": "theirs"}
    assert without_secrets_of_others("worker", found) == found


def test_who_reads_and_writes_the_media_store_gets_its_credentials() -> None:
    found = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1"}
    for process in ("web", "worker"):
        assert environment_of_child(process, found, foreign_database=False) == found
    assert environment_of_child("scheduler", found, foreign_database=False) == {"AWS_REGION": "eu-central-1"}
