"""What Clerk would tell of people and organizations, event by event, in the order in which it happens."""

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
    """Lives by name. Each is complete: whoever an event is about also appears."""
    friend = replace(who, user_id=f"{who.user_id}Friend", email=f"friend.{who.email}")
    elsewhere = replace(who, organization_id=f"{who.organization_id}Elsewhere")
    tell = _Teller(start)
    return {
        "a_person_alone": [
            tell.user("created", who, 0),
            tell.user("updated", replace(who, email=f"new.{who.email}"), 1),
            tell.signed_in(who, 2),
            tell.user("updated", replace(who, email=f"newer.{who.email}"), 3),
            tell.signed_in(who, 4),
            tell.user("deleted", who, 5),
        ],
        "a_career": [
            tell.user("created", who, 0),
            tell.user("updated", replace(who, email=f"new.{who.email}"), 1),
            tell.signed_in(who, 2),
            tell.organization("created", who, 3),
            tell.member("created", who, 4),
            tell.member("updated", who, 4, changed=5, role="org:admin"),
            tell.signed_in(who, 6),
            tell.member("deleted", who, 4, changed=5, told=7, role="org:admin"),
            tell.user("deleted", who, 8),
        ],
        "an_organization": [
            tell.user("created", who, 0),
            tell.organization("created", who, 1),
            tell.member("created", who, 1, role="admin"),
            tell.user("created", friend, 2),
            tell.member("created", friend, 3, role="basic_member"),
            tell.organization("updated", who, 4, name="Acme & Friends"),
            tell.member("updated", friend, 3, changed=5, role="org:editor"),
            tell.organization("deleted", who, 6),
        ],
        "a_member_before_anything_else": [
            tell.member("created", who, 0, role="org:admin"),
            tell.signed_in(who, 0),
            tell.organization("updated", who, 1),
            tell.user("updated", who, 2),
        ],
        "deleted_before_the_membership_is_told": [
            tell.user("created", who, 0),
            tell.organization("created", who, 0),
            tell.user("deleted", who, 1),
            tell.member("created", who, 2),
            tell.member("deleted", who, 2, told=3),
        ],
        "an_address_used_again": [
            tell.user("created", who, 0),
            tell.user("deleted", who, 1),
            tell.user("created", replace(friend, email=who.email), 2),
            tell.signed_in(friend, 3),
        ],
        "two_organizations": [
            tell.user("created", who, 0),
            tell.organization("created", who, 1),
            tell.member("created", who, 2),
            tell.organization("created", elsewhere, 3, name="Elsewhere"),
            tell.member("created", elsewhere, 4, role="org:admin"),
            tell.member("deleted", who, 2, told=5),
        ],
        "banned": [
            tell.user("created", who, 0),
            tell.user("updated", who, 1, banned=True),
            tell.user("updated", replace(who, email=f"new.{who.email}"), 2, banned=True, locked=True),
        ],
        "banned_and_unbanned": [
            tell.user("created", who, 0),
            tell.organization("created", who, 1),
            tell.member("created", who, 2),
            tell.user("updated", who, 3, banned=True),
            tell.user("updated", who, 4, locked=True),
        ],
        "a_banned_member": [
            tell.user("created", who, 0),
            tell.organization("created", who, 1),
            tell.member("created", who, 1, role="org:admin"),
            tell.user("created", friend, 2),
            tell.member("created", friend, 3),
            tell.user("updated", friend, 4, banned=True),
            tell.member("deleted", friend, 3, told=5),
        ],
        "banned_and_deleted": [
            tell.user("created", who, 0),
            tell.user("updated", who, 1, banned=True),
            tell.user("deleted", who, 2),
        ],
        "leaves_and_joins_again": [
            tell.organization("created", who, 0),
            tell.user("created", who, 1),
            tell.member("created", who, 2, role="org:admin"),
            tell.member("deleted", who, 2, told=3, role="org:admin"),
            tell.member("created", who, 4, number=2),
        ],
    }


class _Teller:
    """Hours after the start, as numbers."""

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
        told: int | None = None,
        role: str = "org:member",
        number: int = 1,
    ) -> Body:
        """`changed` is when the membership last changed (a deletion is no change of it), `told` when the event was."""
        updated = joined if changed is None else changed
        row = clerk_membership(who, created_at=self._at(joined), updated_at=self._at(updated), role=role, number=number)
        return clerk_event(f"organizationMembership.{what}", row, at=self._at(updated if told is None else told))

    def _at(self, hour: int) -> datetime:
        return self._start + timedelta(hours=hour)
