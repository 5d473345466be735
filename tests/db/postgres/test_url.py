"""Database URLs as people have them: those of the old app, of providers, of other libraries, and broken ones."""

from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import PGconn

from db.migrate import upgrade as migrate
from db.migrate.upgrade import owners_engine
from db.postgres.url import CHOICES, COUNTS, DEFAULTS, UrlInvalid, parse
from db.transaction import SYSTEM, Database
from local.postgres import OWNER
from tests.builders import new_id
from tests.conftest import Servers
from tests.ports import closed_port

PLACE = "postgresql://ada:s3cret@db.example.com:5433/shop"


def conninfo(url: str) -> dict[str, str]:
    """What libpq is to connect with, without what is always there."""
    found = {name: str(value) for name, value in conninfo_to_dict(parse(url).conninfo).items()}
    return {name: value for name, value in found.items() if name not in DEFAULTS}


def reason(url: str) -> str:
    with pytest.raises(UrlInvalid) as refused:
        parse(url)
    text = str(refused.value)
    assert "\n" not in text
    assert "s3cret" not in text
    return text


# --- what works ---------------------------------------------------------------------------------------------


def test_the_url_of_the_old_app_means_what_it_meant() -> None:
    url = f"{PLACE}?schema=public&pgbouncer=true&connection_limit=3&pool_timeout=20&statement_cache_size=0"
    assert conninfo(url) == conninfo(PLACE)
    found = parse(url)
    assert (found.pool_size, found.pool_timeout, found.pooled) == (3, 20, True)
    assert found.ignored == ("statement_cache_size: there is no cache of statements to size",)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sslmode=verify-full&sslrootcert=system", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("sslmode=require&channel_binding=require", {"sslmode": "require", "channel_binding": "require"}),
        ("options=endpoint%3Dep-cool-1", {"options": "endpoint=ep-cool-1"}),
        ("options=-c%20search_path%3Dpublic", {"options": "-c search_path=public"}),
        ("ssl=true", {"sslmode": "require"}),
        ("application_name=shop&supa=base-pooler.x&pgbouncer=false", {}),
    ],
)
def test_parameters_of_libpq_reach_it(query: str, expected: dict[str, str]) -> None:
    assert conninfo(f"{PLACE}?{query}") == conninfo(PLACE) | expected


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
def test_providers_and_libraries_have_names_of_their_own_for_it(scheme: str) -> None:
    assert conninfo(PLACE.replace("postgresql", scheme, 1)) == conninfo(PLACE)


@pytest.mark.parametrize("place", [PLACE, "postgresql://ada:s3cret@h1:5432,h2:5433/shop"])
@pytest.mark.parametrize("default", ["target_session_attrs=any", "connect_timeout=15", "keepalives=0"])
def test_what_is_usual_here_holds_where_the_url_says_nothing(place: str, default: str) -> None:
    usual = {name: str(value) for name, value in DEFAULTS.items()}
    assert conninfo_to_dict(parse(place).conninfo).items() >= usual.items()
    name, _, value = default.partition("=")
    assert conninfo_to_dict(parse(f"{place}?{default}").conninfo).items() >= (usual | {name: value}).items()


@pytest.mark.parametrize(
    ("host", "pooled"),
    [
        ("ep-cool-1-pooler.eu-central-1.aws.neon.tech", True),
        ("aws-0-eu-central-1.pooler.supabase.com", True),
        ("ep-cool-1.eu-central-1.aws.neon.tech", False),
        ("pooler-notes.example.com", False),
    ],
)
def test_a_pooler_is_known_by_the_name_that_its_provider_gives_it(host: str, pooled: bool) -> None:
    assert parse(f"postgresql://ada:s3cret@{host}/shop").pooled is pooled


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), st.text(min_size=1))
def test_whatever_is_encoded_comes_out_as_it_was(word: str, other: str) -> None:
    other = other.replace("\0", "-").encode(errors="replace").decode()
    user, password, name = quote(word, safe=""), quote(other, safe=""), quote(word, safe="")
    found = conninfo(f"postgresql://{user}:{password}@h/{name}")
    assert (found["user"], found["password"], found["dbname"]) == (word, other, word)


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://ada:s3cret@h/d", "should look like postgresql://"),
        ("host=h password=s3cret", "should look like postgresql://"),
        ("prisma://accelerate.example.com/?api_key=s3cret", "give that of the database"),
        ("postgresql://ada:s3cret%@h/d", "write % as %25"),
        ("postgresql://ada:50%s3cret@h/d", "write % as %25"),
        ("postgresql://ada:p@s3cret@h/d", "@ as %40"),
        ("postgresql://ada:s3cret/x@h/d", "/ as %2F"),
        ("postgresql://ada:p/x?s3cret=y@h/d", "@ as %40"),
        ("postgresql://ada:p@h?s3cret=y@h/d", "@ as %40"),
        ("postgresql://ada:s3cret x@h/d", "a space as %20"),
        ("postgresql://ada:s3cret@h:99999/d", "a number from 1 to 65535"),
        ("postgresql://ada:s3cret@h1:1,h2:x/d", "a number from 1 to 65535"),
        ("postgresql://ada:s3cret@[::1/d", "should look like postgresql://"),
        (f"{PLACE}?sslmode=requir", "sslmode=requir: should be one of disable, allow, prefer, require, verify-ca"),
        (f"{PLACE}?target_session_attrs=standby", "should be one of any, read-write, primary"),
        (f"{PLACE}?connection_limit=0", "connection_limit=0: should be a whole number from 1"),
        (f"{PLACE}?pool_timeout=0", "pool_timeout=0: should be a whole number from 1 to 30"),
        (f"{PLACE}?connect_timeout=soon", "connect_timeout=soon: should be a whole number"),
        (f"{PLACE}?schema=shop", "the tables are in the schema public"),
        (f"{PLACE}?pgbouncer=yes", "pgbouncer=yes: should be true or false"),
        (f"{PLACE}?sslaccept=strict", "write sslmode="),
        (f"{PLACE}?sslidentity=client.p12", "write sslcert=FILE&sslkey=FILE"),
        (f"{PLACE}?currentSchema=public", "remove it"),
        (f"{PLACE}?prepareThreshold=0", "prepareThreshold: no parameter of a Postgres URL; remove it"),
        (f"{PLACE}?sslmode", "name=value"),
        (f"{PLACE}?pgbouncer=true&options=-c%20statement_timeout%3D0", "a pooler lets no -c through"),
        (f"{PLACE}?client_encoding=latin1", "should be one of utf8"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_write(url: str, text: str) -> None:
    assert text in reason(url)


def test_all_faults_are_named_at_once() -> None:
    text = reason(f"{PLACE}?sslmode=requir&schema=shop&foo=1&pool_timeout=x")
    assert [name in text for name in ("sslmode", "schema", "foo", "pool_timeout")] == [True] * 4


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"postgresql://{text}", f"{PLACE}?{text}"):
        try:
            conninfo = parse(url).conninfo
        except UrlInvalid:
            continue
        conninfo_to_dict(conninfo)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in CHOICES.items() if name != "replication" for value in values],
)
def test_libpq_can_use_each_value_that_is_offered(name: str, value: str) -> None:
    """The values are libpq's own, which it tells nobody before it connects: here to a socket that is not there."""
    assert "invalid" not in trial(f"{name}={value}")
    assert name in COUNTS or name == "client_encoding" or "invalid" in trial(f"{name}={value}x")


def trial(setting: str) -> str:
    tls = "" if not setting.startswith("sslnegotiation") else " sslmode=require"
    return PGconn.connect_start(f"host=/nonexistent {setting}{tls}".encode()).error_message.decode()


# --- on a real server ---------------------------------------------------------------------------------------


@pytest.fixture
def strange(servers: Servers) -> Iterator[str]:
    """The URL of a database whose name and owner need encoding, on the second of two hosts; the first is away."""
    name, role, password = "50% off/now@shop", "ada@shop", "p%40:/?#[]@ &=s3cret"
    with servers.admin() as admin:
        for command in (f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}'", f'CREATE DATABASE "{name}"'):
            admin.execute(command.encode())
    who = f"{quote(role, safe='')}:{quote(password, safe='')}"
    with closed_port() as away:
        yield f"postgresql://{who}@127.0.0.1:{away},127.0.0.1:{servers.postgres.port}/{quote(name, safe='')}"
    with servers.admin() as admin:
        for command in (f'DROP DATABASE "{name}" WITH (FORCE)', f'DROP ROLE "{role}"'):
            admin.execute(command.encode())


def test_several_hosts_and_names_that_need_encoding_work_for_both_libraries(strange: str, servers: Servers) -> None:
    who = "SELECT current_user || ' in ' || current_database()"
    for parameters in ("", "?target_session_attrs=read-write&schema=public&connection_limit=2"):
        database = Database(strange + parameters, pool_size=1, new_id=new_id)
        with database.transaction(SYSTEM) as tx:
            assert tx.driver.execute(who).fetchone() == ("ada@shop in 50% off/now@shop",)
        database.close()
        with owners_engine(strange + parameters).connect() as connection:
            assert connection.exec_driver_sql(who.replace("%", "%%")).scalar_one() == "ada@shop in 50% off/now@shop"
    owner = urlsplit(servers.postgres.url(OWNER)).netloc.rpartition("@")[0]
    _, _, place = strange.rpartition("@")
    assert migrate.upgrade(f"postgresql://{owner}@{place}") == (None, migrate.newest())
