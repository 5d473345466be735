"""Ports: what jobs and the API ask of the world outside, named for what they want. `workers.app` fills them in."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

from domain.billing.tiers import PriceBook
from domain.concepts.generation import ConceptRequest, ConceptResponse
from domain.concepts.trends import Collected
from domain.dexie.records import Record
from domain.errors import Rejected
from domain.identity.people import Membership, Organization, Person
from domain.learning.critique.critiques import CritiqueRequest, CritiqueResponse
from domain.learning.numbers import Measured
from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.posting.outgoing import Answer
from domain.posting.publishing import (
    AccountLimits,
    Commit,
    Content,
    Handle,
    Listing,
    Sight,
    VideoFile,
)
from domain.videos.media import Drawn, Probe
from domain.videos.script import Script
from domain.videos.submissions import ClipOrder, ClipStatus, Lookup, Submission


class TrendCollector(Protocol):
    def collect(self, region: str, now: datetime) -> Collected:
        """Return what people in the region look at. A source that fails is named in the reports and raises nothing."""


class ConceptWriter(Protocol):
    """`runs_out`: it asks nobody, and has only so much that a customer does not know yet (`TrendsTooFew`)."""

    runs_out: bool

    def write(self, request: ConceptRequest) -> ConceptResponse:
        """Drafts for the request. Raises `Unavailable` for "not now", `Rejected` for "never"."""


class ManyThings(Protocol):
    """Performs an operator's action on many things (`domain/ops/action_list.py`)."""

    def act(self, bulk_id: UUID, now: datetime) -> bool:
        """Act on the next items of a bulk action, in a transaction of its own; False: it has ended. Each item is acted
        upon once, whoever calls how often at once."""


class Critic(Protocol):
    """Says in words why outcomes differ from predictions."""

    def criticise(self, request: CritiqueRequest) -> CritiqueResponse:
        """A critique of the request's outcomes. Raises `Unavailable` for "not now", `Rejected` for "never"."""


class GeneratorUnknown(Rejected):
    """No generator of this name can be used here."""


T = TypeVar("T", ConceptWriter, Critic)


def choose(named: Mapping[str, T], name: str | None = None) -> T:
    """Return the generator, or the critic, of this name; the usual one if none is named.

    Raises:
        GeneratorUnknown: lists those that there are.
    """
    name = name or next(iter(named))
    if name not in named:
        raise GeneratorUnknown(f"generator: it is not known here; there is {', '.join(named)}")
    return named[name]


FetchEvent = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""Given the body of a Stripe event that does not say all it is about (a thin one, or one that carries a part of its
lines or items), the body of a snapshot event that does; None if Stripe has none.

Raises ProviderUnavailable (tried again later) or Rejected (it will not get better).
"""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the objects that Stripe or Clerk lists, as they were at `as_of` or later: by Stripe's clock, and by our
    own for Clerk's, which say themselves when they changed."""

    as_of: datetime
    items: tuple[Mapping[str, Any], ...]


class Cashier(Protocol):
    """Sells plans. Each call may raise ProviderUnavailable, ProviderRefused, or Conflict (a key used for another
    request); the same `key` is the same act, however often it is asked for."""

    def add_customer(self, tenant_id: UUID, *, key: str) -> str:
        """Return the id of a new customer that pays for this tenant."""

    def statuses(self, customer_id: str) -> list[str]:
        """Return the status of each subscription that the customer has or had, as of now."""

    def checkout(self, order: "Order", *, key: str) -> str:
        """Return the address of a page that sells this."""

    def portal(self, customer_id: str, return_url: str, *, key: str) -> str:
        """Return the address of a page where the customer sees and changes what they pay for."""


class BillingRecords(Protocol):
    """Stripe's own books, page by page. Each call may raise ProviderUnavailable or ProviderRefused.

    Without `customer_id` it is everybody's; `since` is when the object was made.
    """

    def subscriptions(self, customer_id: str | None = None) -> Iterator[Page]:
        """Return all subscriptions, also those that ended."""

    def paid_invoices(self, customer_id: str | None = None, since: datetime | None = None) -> Iterator[Page]: ...

    def undelivered_events(self, since: datetime) -> Iterator[Page]:
        """Return the events that a webhook endpoint has not accepted; those of the last 30 days are kept."""


class IdentityRecords(Protocol):
    """Clerk's own books, page by page, oldest first. Each call may raise ProviderUnavailable or ProviderRefused."""

    def instance(self) -> str:
        """Return the id of the instance that is asked."""

    def listed(self, kind: type[Person | Organization | Membership]) -> Iterator[Page]:
        """Return all objects of a kind. No page comes where the instance has no organizations."""

    def has(self, row: Person | Organization | Membership) -> bool:
        """Return False only if Clerk says that there is no such object."""


@dataclass(frozen=True, slots=True)
class Order:
    """A subscription to one price, once; whoever pays comes back to one of our own pages."""

    tenant_id: UUID
    customer_id: str
    price_id: str
    success_url: str
    cancel_url: str


class ClipProvider(Protocol):
    """A model provider that makes clips for money."""

    def submit(self, order: ClipOrder, key: str) -> Submission:
        """Order one clip, with at most one request on the wire, and say what became of it. `key` is this submission's
        own; a provider that takes labels gets it, so that `look` can find the clip again."""

    def look(self, key: str) -> Lookup:
        """Return whether the submission of this key was taken; `Unknown` if the provider cannot tell.

        Raises:
            Unavailable: it does not answer now.
        """

    def poll(self, provider_job_id: str) -> ClipStatus:
        """Return how it is doing; a fresh address each time it has succeeded.

        Raises:
            Unavailable: it does not answer now, which says nothing of the clip.
            ProviderRefused: it knows no such job.
        """

    def fetch(self, url: str, target: Path, *, most_bytes: int, watch: "Watch") -> bytes:
        """Copy the clip to a file while it comes, and return its SHA-256. The address must be https and public, or of
        the provider's own configured host.

        Raises:
            Unavailable: it broke off, is too slow, or the address has expired; asking again may help.
            MediaUnusable: it is larger than `most_bytes`.
        """

    def cancel(self, provider_job_id: str) -> bool:
        """Ask that it be stopped; False if the provider has no way to do that.

        Raises:
            Unavailable: it does not answer now.
        """


Watch = Callable[[float], object]
"""Called every half second or so by long work, with the fraction that is done; what it raises ends the work at once."""


class Studio(Protocol):
    """Draws and looks at video files with this machine's processor. Each call may raise StudioUnavailable."""

    def storyboard(self, script: Script, target: Path, *, watch: Watch, clips: Mapping[int, Path] = ...) -> Drawn:
        """Draw the script as a video file; the same script gives the same bytes. `clips` replace the slides of these
        segments (by their number from 0), as far as they last; what the slide says is set over them.

        Raises:
            MediaUnusable: a clip cannot be decoded; the text says of which segment.
        """

    def probe(self, path: Path, *, watch: Watch, deep: bool = False) -> Probe:
        """Look at a file; `deep` also looks for pictures and sound that are not there.

        Raises:
            MediaUnusable: it is no video that can be read, or `deep` and longer or larger than any platform takes.
        """

    def thumbnail(self, path: Path, target: Path, *, at: float, watch: Watch) -> None:
        """Write the picture at `at` seconds as a JPEG."""


More = Callable[[int], object]
"""Called before so many further requests; what it raises ends the call at once."""


def no_matter(count: int) -> None:
    """For callers whose requests nobody counts."""


class MediaStore(Protocol):
    """Keeps files by key, for as long as something uses them. Each call may raise StoreUnavailable."""

    def put(self, key: str, source: Path, *, content_type: str) -> None:
        """Keep the file; if it is kept already, do nothing."""

    def has(self, key: str) -> bool:
        """Return whether something is kept under this key; it is not read."""

    def get(self, key: str, target: Path, *, watch: Watch) -> None:
        """Copy a kept file to `target`.

        Raises:
            MediaMissing: nothing is kept under this key.
        """

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `end`.

        Raises:
            MediaMissing: nothing is kept under this key.
        """

    def delete(self, key: str) -> None:
        """Keep it no longer; if it is not there, do nothing. It takes seconds at most: see `db/videos/media.py`."""

    def address(self, key: str, *, lifetime: timedelta) -> str:
        """Return an address at which anybody can read it for so long, or a little longer."""

    def upload(self, key: str, *, bytes: int, content_type: str, lifetime: timedelta) -> "UploadAddress | None":
        """Return where anybody can put this one file for so long; None where uploads come through us."""

    def check_room(self, bytes: int) -> None:
        """Do nothing if a file of so many bytes has room, as far as the store can tell at once.

        Raises:
            StoreUnavailable: it has none.
        """

    def incoming(self) -> Path:
        """Return a folder for files on their way here, on the store's own disk if it has one: a file that is put from
        there is not copied again."""

    def sweep(self, before: datetime) -> int:
        """Delete what was left on its way since before then, and return how many files that was."""


@dataclass(frozen=True, slots=True)
class UploadAddress:
    """An address for one PUT. The store refuses a body without these headers, or one that they do not describe."""

    url: str
    headers: Mapping[str, str]


class Publisher(Protocol):
    """A platform that videos are posted to (`domain/posting/publishing.py` says what the acts are for). Each call may
    raise TokenExpired, AccountRevoked, HeldOff, or Unavailable; but `commit` raises nothing that it could return.

    `measured_at_once` is how many posts one call of `measure` asks for, `doubted_at_once` how many one of `gone`.
    """

    measured_at_once: int
    doubted_at_once: int

    def limits(self, credential: Credential) -> AccountLimits:
        """Return what the platform lets this account do now."""

    def open(self, credential: Credential, content: Content, video: VideoFile, watch: "Watch") -> Handle:
        """Make a handle, by which nothing is published yet. Where that takes an upload it may take long: what `watch`
        raises ends it, and is raised.

        Raises:
            PostRefused: the platform does not take this post.
        """

    def ready(
        self, credential: Credential, handle: Handle, content: Content, video: VideoFile, watch: "Watch"
    ) -> Handle:
        """Return the handle (or what has become of it) once it can be committed. It may take long, and be repeated.

        Raises:
            NotReady: to be asked again later.
            HandleLost: another handle may be opened.
            PostRefused: the platform does not take this post.
        """

    def commit(
        self,
        credential: Credential,
        handle: Handle,
        content: Content,
        video: VideoFile,
        *,
        start: int,
        watch: "Watch",
    ) -> Commit:
        """Publish what the handle stands for: the point of no return. No request is repeated. `start` is how many bytes
        of the video the platform has. What `watch` raises is raised, before the last request is sent."""

    def look(self, credential: Credential, handle: Handle, content: Content, video: VideoFile) -> Sight:
        """Return whether the handle became a post. It changes nothing."""

    def recent(self, credential: Credential, since: datetime) -> Listing:
        """Return the account's own posts since then, newest first."""

    def permalink(self, credential: Credential, external_id: str) -> str | None:
        """Return the address of a published post; None where it has none (yet)."""

    def measure(
        self, credential: Credential, external_ids: Sequence[str], now: datetime, more: "More" = no_matter
    ) -> Measured:
        """Return the numbers of the account's own posts, at most `measured_at_once`, as they are now: with one request.
        A metric that the platform has retired costs only itself, and further requests; these are begun with `more`."""

    def gone(self, credential: Credential, external_ids: Sequence[str]) -> frozenset[str]:
        """Return which of the account's own posts, at most `doubted_at_once`, the platform certainly has no longer."""

    def comment(self, credential: Credential, external_id: str, text: str, key: str) -> str | None:
        """Write the first comment below a published post, and return its id; None where the platform has no way to.
        `key` is the same in every attempt; where the platform knows no such thing, an equal comment of ours is looked
        for first."""


class OldAppFiles(Protocol):
    """Reads and writes the export files of the old app (`domain/dexie/`)."""

    def records(self, path: Path, watch: "Watch") -> Iterator[Record]:
        """Yield a file's records, in the file's order; no more than the largest is in memory.

        Raises:
            FileRefused: it is no export, or damaged; the text says where.
        """

    def write(self, tables: Iterable[tuple[str, Iterable[Mapping[str, Any]]]]) -> Iterator[bytes]:
        """Yield the file of these tables' records, piece by piece."""


class Login(Protocol):
    """How an account of a platform is connected, and its tokens kept fresh.

    Each call may raise `Unavailable` (`NotSent`, a kind of it, if nothing left this machine), and `AccountRevoked` if
    the platform says that what was given opens nothing (any more).
    """

    passwords: bool
    """Whether an account is connected with a password made for programs (`log_in`), and not in a browser."""

    def authorize_url(self, app: AppRegistration, *, state: str, challenge: str, redirect_uri: str, server: str) -> str:
        """Return the page on which the owner gives access. `challenge` is PKCE's, S256."""

    def exchange(self, app: AppRegistration, *, code: str, verifier: str, redirect_uri: str, server: str) -> Grant:
        """Return what the code of the callback stands for, with the account's id and name. It can be used once."""

    def refresh(self, app: AppRegistration, grant: Grant, server: str) -> Grant:
        """Return fresh tokens for those of a grant. Sent once: some platforms end the old ones at once."""

    def revoke(self, app: AppRegistration, grant: Grant, server: str) -> None:
        """Tell the platform that the tokens are not used any more; does nothing where it has no way to."""

    def register(self, server: str, redirect_uri: str) -> AppRegistration:
        """Make this installation known to a server that knows it not yet (Mastodon only)."""

    def log_in(self, name: str, password: str, server: str) -> Grant:
        """Return the grant of an account's program password (Bluesky only)."""


class Vault(Protocol):
    """Encrypts what opens somebody's account."""

    def seal(self, text: str) -> bytes:
        """Return the text encrypted under the newest key."""

    def unseal(self, sealed: bytes) -> str:
        """Return the text.

        Raises:
            SealUnknown: it is under a key that is not set any more.
        """

    def reseal(self, sealed: bytes) -> bytes | None:
        """Return it under the newest key; None if it is already."""


class SubmissionMarks(Protocol):
    """Keeps the last submissions of posts outside of the database, which may be put back to an earlier state."""

    def remember(self, submission_id: UUID, at: datetime) -> None:
        """Keep a submission that the database has. What cannot be kept is logged, and nothing else happens."""

    def recall(self, since: datetime) -> Sequence[UUID]:
        """Return the last submissions after this moment that are remembered; none if nothing remembers any."""


class OutgoingWebhooks(Protocol):
    """Sends bodies to addresses that came from tenants, which lead to the internet and nowhere else."""

    def send(self, url: str, body: bytes, *, secret: bytes, message_id: str, at: datetime) -> Answer:
        """Send a body once, signed with the sealed secret as it is at `at`. Nothing is raised: what went wrong is in
        the answer, in words that the tenant may read."""


@dataclass(frozen=True)
class Ports:
    """`prices` tells which plan a Stripe price buys; `livemode` which of Stripe's modes is served (None: both);
    `writers` are the generators by name, the usual one first; `critics` likewise.
    `clerk_instance` is the id of our Clerk instance, if set; `people` None where there is no key to ask Clerk with.
    `clips` are the providers that there is a key for, by the name that `video_providers` has.
    `publishers` are all platforms, by name; `logins` those that accounts can be connected of here; `login_apps` how
    this installation is known to them (Mastodon's are in `mastodon_apps`, one an instance). `vault` is None without
    keys; `marks`, `old_app`, `webhooks` and `many` only in tests that need none.

    The others are None where there is no key to ask Stripe with: nothing is sold then, and thin events wait, parked.
    """

    prices: PriceBook
    trends: TrendCollector
    writers: Mapping[str, ConceptWriter]
    clips: Mapping[str, ClipProvider]
    studio: Studio
    media: MediaStore
    publishers: Mapping[str, Publisher] = field(default_factory=dict)
    logins: Mapping[str, Login] = field(default_factory=dict)
    login_apps: Mapping[str, AppRegistration] = field(default_factory=dict)
    vault: Vault | None = None
    critics: Mapping[str, Critic] = field(default_factory=dict)
    marks: SubmissionMarks | None = None
    old_app: OldAppFiles | None = None
    webhooks: OutgoingWebhooks | None = None
    livemode: bool | None = None
    clerk_instance: str | None = None
    people: IdentityRecords | None = None
    fetch_event: FetchEvent | None = None
    cashier: Cashier | None = None
    records: BillingRecords | None = None
    many: ManyThings | None = None
