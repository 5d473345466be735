"""Scenarios of people and organizations at Clerk, event by event, in the order in which it happens."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from simulators.clerk.events import (
    clerk_deleted_organization,
    clerk_deleted_user,
    clerk_event,
    clerk_membership,
    clerk_organization,
    clerk_session,
    clerk_user,
)
from simulators.personas import Body, Persona


def scenarios(who: Persona, start: datetime) -> Mapping[str, list[Body]]:
    """The scenarios by name. Each is complete: whoever an event is about also appears."""
    friend = replace(who, user_id=f"{who.user_id}Friend", email=f"friend.{who.email}")
    elsewhere = replace(who, organization_id=f"{who.organization_id}Elsewhere")
    at = _Writer(start)
    return {
        "a_person_alone": [
            at.user("created", who, 0),
            at.user("updated", replace(who, email=f"new.{who.email}"), 1),
            at.signed_in(who, 2),
            at.user("updated", replace(who, email=f"newer.{who.email}"), 3),
            at.signed_in(who, 4),
            at.user("deleted", who, 5),
        ],
        "a_career": [
            at.user("created", who, 0),
            at.user("updated", replace(who, email=f"new.{who.email}"), 1),
            at.signed_in(who, 2),
            at.organization("created", who, 3),
            at.member("created", who, 4),
            at.member("updated", who, 4, changed=5, role="org:admin"),
            at.signed_in(who, 6),
            at.member("deleted", who, 4, changed=5, sent=7, role="org:admin"),
            at.user("deleted", who, 8),
        ],
        "an_organization": [
            at.user("created", who, 0),
            at.organization("created", who, 1),
            at.member("created", who, 1, role="admin"),
            at.user("created", friend, 2),
            at.member("created", friend, 3, role="basic_member"),
            at.organization("updated", who, 4, name="Acme & Friends"),
            at.member("updated", friend, 3, changed=5, role="org:editor"),
            at.organization("deleted", who, 6),
        ],
        "a_member_before_anything_else": [
            at.member("created", who, 0, role="org:admin"),
            at.signed_in(who, 0),
            at.organization("updated", who, 1),
            at.user("updated", who, 2),
        ],
        "deleted_before_the_membership_is_sent": [
            at.user("created", who, 0),
            at.organization("created", who, 0),
            at.user("deleted", who, 1),
            at.member("created", who, 2),
            at.member("deleted", who, 2, sent=3),
        ],
        "an_address_used_again": [
            at.user("created", who, 0),
            at.user("deleted", who, 1),
            at.user("created", replace(friend, email=who.email), 2),
            at.signed_in(friend, 3),
        ],
        "two_organizations": [
            at.user("created", who, 0),
            at.organization("created", who, 1),
            at.member("created", who, 2),
            at.organization("created", elsewhere, 3, name="Elsewhere"),
            at.member("created", elsewhere, 4, role="org:admin"),
            at.member("deleted", who, 2, sent=5),
        ],
        "banned": [
            at.user("created", who, 0),
            at.user("updated", who, 1, banned=True),
            at.user("updated", replace(who, email=f"new.{who.email}"), 2, banned=True, locked=True),
        ],
        "banned_and_unbanned": [
            at.user("created", who, 0),
            at.organization("created", who, 1),
            at.member("created", who, 2),
            at.user("updated", who, 3, banned=True),
            at.user("updated", who, 4, locked=True),
        ],
        "a_banned_member": [
            at.user("created", who, 0),
            at.organization("created", who, 1),
            at.member("created", who, 1, role="org:admin"),
            at.user("created", friend, 2),
            at.member("created", friend, 3),
            at.user("updated", friend, 4, banned=True),
            at.member("deleted", friend, 3, sent=5),
        ],
        "banned_and_deleted": [
            at.user("created", who, 0),
            at.user("updated", who, 1, banned=True),
            at.user("deleted", who, 2),
        ],
        "leaves_and_joins_again": [
            at.organization("created", who, 0),
            at.user("created", who, 1),
            at.member("created", who, 2, role="org:admin"),
            at.member("deleted", who, 2, sent=3, role="org:admin"),
            at.member("created", who, 4, number=2),
        ],
    }


class _Writer:
    """Writes events; times are hours after the start."""

    def __init__(self, start: datetime) -> None:
        self._start = start

    def user(self, what: str, who: Persona, hour: int, *, banned: bool = False, locked: bool = False) -> Body:
        born = self._at(0)
        row = (
            clerk_deleted_user(who)
            if what == "deleted"
            else clerk_user(who, created_at=born, updated_at=self._at(hour), banned=banned, locked=locked)
        )
        return clerk_event(f"user.{what}", row, at=self._at(hour))

    def signed_in(self, who: Persona, hour: int) -> Body:
        return clerk_event("session.created", clerk_session(who, created_at=self._at(hour)), at=self._at(hour))

    def organization(self, what: str, who: Persona, hour: int, name: str = "Acme") -> Body:
        at = self._at(hour)
        row = clerk_organization(who, created_at=self._at(0), updated_at=at, name=name)
        return clerk_event(f"organization.{what}", clerk_deleted_organization(who) if what == "deleted" else row, at=at)

    def member(
        self,
        what: str,
        who: Persona,
        joined: int,
        *,
        changed: int | None = None,
        sent: int | None = None,
        role: str = "org:member",
        number: int = 1,
    ) -> Body:
        """`changed` is when the membership last changed (a deletion is no change of it), `sent` when the event was."""
        updated = joined if changed is None else changed
        row = clerk_membership(who, created_at=self._at(joined), updated_at=self._at(updated), role=role, number=number)
        return clerk_event(f"organizationMembership.{what}", row, at=self._at(updated if sent is None else sent))

    def _at(self, hour: int) -> datetime:
        return self._start + timedelta(hours=hour)
