"""The types of settings. A value that would have no effect, or fail only when it is used, is refused here.

Each check is a function that returns the value as it is used, or raises ValueError with what it should be. The text
repeats a value only if that is surely no secret.
"""

import base64
import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from db.postgres import url
from domain.concepts.timing import is_zone
from domain.ops.notices import parse_quiet_hours
from integrations.clerk import webhooks as clerk
from integrations.standard_webhooks import SECRET_PREFIX, key
from workers.runtime.redis_url import checked

PRICE = re.compile("price_[A-Za-z0-9_]+")
OPS_TOKEN_LENGTH = 32
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://.")
PRODUCT = re.compile("prod_[A-Za-z0-9]+")
AMOUNT = re.compile(r"\D{0,4}\d[\d.,]*\s?[A-Za-z]{0,3}")
PUBLIC_KEY = re.compile(r"-----BEGIN (RSA )?PUBLIC KEY-----[\s\\n]*MI[A-Za-z0-9+/=\s\\]+-----END \1?PUBLIC KEY-----")


def release(value: str) -> str:
    """Take what a platform says as it is: no name of a release keeps a process from starting."""
    return re.sub(r"[^A-Za-z0-9._+:/@-]", "_", value)[:64]


def split(value: object) -> object:
    """Return the parts of a comma-separated list."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def split_urls(value: object) -> object:
    """Return the parts of a list of addresses, between commas or spaces: a comma within one is not between two."""
    if isinstance(value, str):
        return tuple(part for part in re.split(r"[,\s]+(?=[A-Za-z][A-Za-z0-9+.-]*://)", value.strip(" ,\n")) if part)
    return value


def postgres_url(value: str) -> str:
    if value:
        url.parse(value)
    return value


def redis_url(value: str) -> str:
    return checked(value) if value else value


def host(value: str) -> str:
    """Without a value the web server decides (`Settings.web_host`)."""
    try:
        ip_address(value or "::")
    except ValueError:
        if not re.fullmatch("[A-Za-z0-9._-]*", value):
            text = "should be an address or a name to listen on, such as 0.0.0.0, and without a port"
            raise ValueError(text) from None
    return value


def host_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch("[A-Za-z0-9._-]+", name) for name in value):
        raise ValueError("should be names of hosts, comma-separated, without a scheme or a port: gateway.example.com")
    return value


def networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """All addresses at once would let every client write its own address."""
    for text in value:
        try:
            network = ip_network(text)
        except ValueError:
            wrong = "should be addresses or networks of proxies, comma-separated, such as 10.0.0.0/8,192.0.2.7"
            raise ValueError(wrong) from None
        if network.prefixlen == 0:
            raise ValueError(f"{text} is every address: whoever sends a request could say where it comes from")
    return value


def https(value: str) -> str:
    """Plain http is for this machine only: whoever can change an answer on the way chooses the keys."""
    if value and not _is_https(value):
        raise ValueError("should be an https address (plain http is for this machine only)")
    return value.rstrip("/")


def origins(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(_is_origin, value)):
        raise ValueError("should be origins, comma-separated: https://app.example.com,http://localhost:3000")
    return value


def header(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("should be one line of ASCII characters: it is sent in a header")
    return value


def api_key(value: SecretStr) -> SecretStr:
    if not _is_word(value.get_secret_value()):
        raise ValueError("should be a key: printable ASCII characters, without spaces")
    return value


def ops_token(value: SecretStr) -> SecretStr:
    """Whoever guesses it may do everything, so it has to be one that nobody made up."""
    token = value.get_secret_value()
    if not _is_word(token) or len(token) < OPS_TOKEN_LENGTH or len(set(token)) < 8:
        text = f"should be at least {OPS_TOKEN_LENGTH} random characters without spaces, such as `openssl rand -hex 32`"
        raise ValueError(text + " prints")
    return value


def stripe_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if key and not (_is_word(key) and key.startswith(("sk_", "rk_"))):
        raise ValueError("should be a secret or restricted key of Stripe: sk_live_…, sk_test_… or rk_…")
    return value


def stripe_signing_secrets(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for secret in (each.get_secret_value() for each in value):
        if not _is_word(secret) or secret.startswith(("sk_", "rk_", "pk_", "we_")):
            raise ValueError("should be signing secrets of webhook endpoints, comma-separated: whsec_…")
    return value


def clerk_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if key and not (_is_word(key) and key.startswith("sk_")):
        raise ValueError("should be a secret key of Clerk: sk_live_… or sk_test_…")
    return value


def clerk_signing_secrets(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """A secret that is not base64 verifies nothing."""
    if not all(clerk.key(each.get_secret_value()) for each in value):
        raise ValueError("should be signing secrets of webhook endpoints, comma-separated: whsec_… and then base64")
    return value


def encryption_keys(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """Accept Fernet's keys."""
    for each in value:
        try:
            size = len(base64.b64decode(each.get_secret_value(), b"-_", validate=True))
        except ValueError:
            size = 0
        if size != 32:
            raise ValueError("should be keys of 32 random bytes each in URL-safe base64, separated by commas")
    return value


def clerk_instance(value: str | None) -> str | None:
    """An id of something else would have every event ignored."""
    if value and not value.startswith("ins_"):
        raise ValueError("should be the id of an instance of Clerk: ins_…")
    return value


def public_key(value: str) -> str:
    if "PRIVATE KEY" in value:
        raise ValueError("is a private key; give the public one: -----BEGIN PUBLIC KEY----- …")
    if value and not PUBLIC_KEY.search(value):
        raise ValueError("should be a PEM public key: -----BEGIN PUBLIC KEY----- …")
    return value


def prices(value: tuple[str, ...]) -> tuple[str, ...]:
    if faults := _price_faults(value):
        raise ValueError("; ".join(faults))
    return value


def collector(value: str) -> str:
    """Plain http is usual here: a collector stands in one's own network. What would be logged with it is refused."""
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and parts.scheme in ("http", "https") and "@" not in parts.netloc
    except ValueError:
        usable = False
    if value and (not usable or parts.query or parts.fragment):
        raise ValueError("should be an address such as http://collector:4318, without a name, password or query")
    return value.rstrip("/")


def otlp_headers(value: SecretStr) -> SecretStr:
    """Accept what `read_headers` reads."""
    try:
        read_headers(value.get_secret_value())
    except ValueError:
        raise ValueError("should be headers, comma-separated, escaped as in an URL: name=value,name=value") from None
    return value


def read_headers(text: str) -> dict[str, str]:
    """Return the headers of `name=value,…`, whose parts are escaped as in an URL.

    Raises:
        ValueError: it is something else.
    """
    headers = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        name, equals, escaped = pair.partition("=")
        name, content = unquote(name).strip().lower(), unquote(escaped).strip()
        if not equals or not re.fullmatch("[a-z0-9_.-]+", name) or not (content.isascii() and content.isprintable()):
            raise ValueError("not a header")
        headers[name] = content
    return headers


def sentry_dsn(value: SecretStr) -> SecretStr:
    dsn = value.get_secret_value()
    if dsn and not (_is_https(dsn) and urlsplit(dsn).username and urlsplit(dsn).path.rpartition("/")[2].isdecimal()):
        raise ValueError("should be the DSN of a project of Sentry: https://<key>@<host>/<number>")
    return value


def notify_urls(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """Whether apprise understands an address is asked when it is used, and by `viral doctor`: it is too large a library
    for every process."""
    for number, each in enumerate(value, 1):
        url = each.get_secret_value()
        match = SCHEME.match(url)
        if match is None or not _is_word(url):
            raise ValueError(f"number {number} is no address such as slack://… or https://…")
        if match[1].lower() == "http" and not _is_https(url):
            raise ValueError(f"number {number} should be an https address (plain http is for this machine only)")
    return value


def webhook_secret(value: SecretStr) -> SecretStr:
    secret = value.get_secret_value()
    if secret and not (secret.startswith(SECRET_PREFIX) and len(key(secret)) >= 24):
        raise ValueError("should be whsec_ and then random bytes, such as `openssl rand -base64 32` prints")
    return value


def quiet_hours(value: str) -> str:
    try:
        parse_quiet_hours(value)
    except ValueError:
        raise ValueError("should be two times of a day, such as 22:00-07:00") from None
    return value


def time_zone(value: str) -> str:
    if not is_zone(value):
        raise ValueError("should be the name of a time zone, such as Europe/Berlin")
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(split)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(split)]
NotifyUrls = Annotated[tuple[SecretStr, ...], BeforeValidator(split_urls), AfterValidator(notify_urls)]
WebhookSecret = Annotated[SecretStr, AfterValidator(webhook_secret)]
QuietHoursText = Annotated[str, AfterValidator(quiet_hours)]
TimeZone = Annotated[str, AfterValidator(time_zone)]

PostgresUrl = Annotated[str, AfterValidator(postgres_url)]
RedisUrl = Annotated[str, AfterValidator(redis_url)]
Release = Annotated[str, AfterValidator(release)]
Host = Annotated[str, AfterValidator(host)]
Networks = Annotated[Words, AfterValidator(networks)]
HostNames = Annotated[Words, AfterValidator(host_names)]
Https = Annotated[str, AfterValidator(https)]
Collector = Annotated[str, AfterValidator(collector)]
OtlpHeaders = Annotated[SecretStr, AfterValidator(otlp_headers)]
SentryDsn = Annotated[SecretStr, AfterValidator(sentry_dsn)]
Origins = Annotated[Words, AfterValidator(origins)]
Header = Annotated[str, AfterValidator(header)]
ApiKey = Annotated[SecretStr, AfterValidator(api_key)]
OpsToken = Annotated[SecretStr, AfterValidator(ops_token)]
StripeKey = Annotated[SecretStr, AfterValidator(stripe_key)]
StripeSigningSecrets = Annotated[Secrets, AfterValidator(stripe_signing_secrets)]
ClerkSigningSecrets = Annotated[Secrets, AfterValidator(clerk_signing_secrets)]
ClerkKey = Annotated[SecretStr, AfterValidator(clerk_key)]
ClerkInstance = Annotated[str | None, AfterValidator(clerk_instance)]
EncryptionKeys = Annotated[Secrets, AfterValidator(encryption_keys)]
PublicKey = Annotated[str, AfterValidator(public_key)]
Prices = Annotated[Words, AfterValidator(prices)]


def _price_faults(texts: Sequence[str]) -> list[str]:
    faults = []
    for text in texts:
        if PRODUCT.fullmatch(text):
            faults.append(f"{text} is a product; give the id of one of its prices: price_…")
        elif AMOUNT.fullmatch(text):
            faults.append("an amount is no price; give the id that Stripe shows for it: price_…")
        elif not PRICE.fullmatch(text):
            faults.append("should be ids of prices, comma-separated: price_…")
    return list(dict.fromkeys(faults))


def _is_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _is_https(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
        )
    except ValueError:
        return False


def _is_origin(text: str) -> bool:
    """An origin is written as browsers do: no path, no slash at the end. Extensions and apps have their own schemes."""
    try:
        parts = urlsplit(text)
        return bool(parts.scheme and parts.netloc) and text == f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        return False
