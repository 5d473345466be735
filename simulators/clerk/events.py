"""Event bodies as Clerk sends them: plain dicts, made from explicit times and ids, without a network."""

from datetime import datetime, timedelta

from simulators.personas import Body, Persona, digest, milliseconds


def clerk_event(kind: str, data: Body, *, at: datetime) -> Body:
    """The envelope of a Clerk event. It has no id: that is the header `svix-id`."""
    return {
        "data": data,
        "event_attributes": {"http_request": {"client_ip": "203.0.113.7", "user_agent": "Mozilla/5.0"}},
        "instance_id": "ins_2fakeInstanceForDevelopment",
        "object": "event",
        "timestamp": milliseconds(at),
        "type": kind,
    }


def clerk_user(
    who: Persona,
    *,
    created_at: datetime,
    updated_at: datetime | None = None,
    last_sign_in_at: datetime | None = None,
    first_name: str | None = "Ada",
    last_name: str | None = "Lovelace",
    banned: bool = False,
    locked: bool = False,
) -> Body:
    """A user as `user.created` and `user.updated` carry it; an older, unverified address comes first in the list.

    `banned` is what an administrator decided; `locked` is Clerk's own answer to wrong passwords, and passes."""
    changed = milliseconds(updated_at or created_at)

    def address(email: str, status: str) -> Body:
        return {
            "id": f"idn_{digest(email)}",
            "object": "email_address",
            "created_at": milliseconds(created_at),
            "email_address": email,
            "linked_to": [],
            "matches_sso_connection": False,
            "reserved": False,
            "updated_at": changed,
            "verification": {"attempts": 1, "expire_at": None, "status": status, "strategy": "email_code"},
        }

    primary = address(who.email, "verified")
    return {
        "id": who.user_id,
        "object": "user",
        "backup_code_enabled": False,
        "banned": banned,
        "create_organization_enabled": True,
        "created_at": milliseconds(created_at),
        "delete_self_enabled": True,
        "email_addresses": [address(f"old.{who.email}", "unverified"), primary],
        "enterprise_accounts": [],
        "external_accounts": [],
        "external_id": None,
        "first_name": first_name,
        "has_image": True,
        "image_url": f"https://img.clerk.com/{digest(who.user_id)}",
        "last_active_at": changed,
        "last_name": last_name,
        "last_sign_in_at": milliseconds(last_sign_in_at) if last_sign_in_at else None,
        "locked": locked,
        "passkeys": [],
        "password_enabled": True,
        "phone_numbers": [],
        "primary_email_address_id": primary["id"],
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "private_metadata": {},
        "profile_image_url": f"https://images.clerk.dev/{digest(who.user_id)}",
        "public_metadata": {},
        "saml_accounts": [],
        "totp_enabled": False,
        "two_factor_enabled": False,
        "unsafe_metadata": {},
        "updated_at": changed,
        "username": None,
        "web3_wallets": [],
    }


def clerk_deleted_user(who: Persona) -> Body:
    """Clerk says no more than this of a deleted user."""
    return {"deleted": True, "id": who.user_id, "object": "user"}


def clerk_organization(
    who: Persona, *, created_at: datetime, updated_at: datetime | None = None, name: str = "Acme"
) -> Body:
    """An organization as `organization.created` and `.updated` carry it, and every membership inside it."""
    return {
        "id": who.organization_id,
        "object": "organization",
        "admin_delete_enabled": True,
        "created_at": milliseconds(created_at),
        "created_by": who.user_id,
        "has_image": False,
        "image_url": f"https://img.clerk.com/{digest(who.organization_id)}",
        "logo_url": None,
        "max_allowed_memberships": 5,
        "members_count": 1,
        "name": name,
        "pending_invitations_count": 0,
        "private_metadata": {},
        "public_metadata": {},
        "slug": name.lower(),
        "updated_at": milliseconds(updated_at or created_at),
    }


def clerk_deleted_organization(who: Persona) -> Body:
    """Clerk says no more than this of a deleted organization."""
    return {"deleted": True, "id": who.organization_id, "object": "organization", "slug": "acme"}


def clerk_membership(
    who: Persona, *, created_at: datetime, updated_at: datetime | None = None, role: str = "org:member", number: int = 1
) -> Body:
    """A membership, whole also when it is deleted; `number` counts how often this person has joined."""
    return {
        "id": f"orgmem_{digest(who.organization_id, who.user_id, number)}",
        "object": "organization_membership",
        "created_at": milliseconds(created_at),
        "organization": clerk_organization(who, created_at=created_at),
        "permissions": [],
        "private_metadata": {},
        "public_metadata": {},
        "public_user_data": {
            "first_name": "Ada",
            "has_image": True,
            "identifier": who.email,
            "image_url": f"https://img.clerk.com/{digest(who.user_id)}",
            "last_name": "Lovelace",
            "profile_image_url": f"https://images.clerk.dev/{digest(who.user_id)}",
            "user_id": who.user_id,
        },
        "role": role,
        "role_name": role.removeprefix("org:").capitalize(),
        "updated_at": milliseconds(updated_at or created_at),
    }


def clerk_session(who: Persona, *, created_at: datetime) -> Body:
    """A session as `session.created` carries it."""
    return {
        "id": f"sess_{digest(who.user_id, created_at)}",
        "object": "session",
        "abandon_at": milliseconds(created_at + timedelta(days=30)),
        "actor": None,
        "client_id": f"client_{digest(who.user_id)}",
        "created_at": milliseconds(created_at),
        "expire_at": milliseconds(created_at + timedelta(days=7)),
        "last_active_at": milliseconds(created_at),
        "status": "active",
        "updated_at": milliseconds(created_at),
        "user_id": who.user_id,
    }
