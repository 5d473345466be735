"""The outcome of an event in plain sentences: what became of it, and what would change that."""

from typing import Any, Final

from domain.events.outcomes import Flag, Status

BECAME: Final = {
    Status.APPLIED: "It was applied.",
    Status.STALE: "A newer event came before it, so it changed nothing.",
    Status.DUPLICATE: "What it says was known, so it changed nothing.",
    Status.PARKED_CUSTOMER: "It waits until its customer is linked to a tenant; then it is applied by itself.",
    Status.PARKED_TENANT: "It names a tenant that does not exist; it is applied once there is one.",
    Status.PARKED_OTHER_CUSTOMER: "Its tenant pays as another customer; a person should say which of the two counts.",
    Status.PARKED_PRICE: "It names a price that no setting maps to a plan; it is applied once one does.",
    Status.PARKED_THIN: "It says that something changed and not to what; Stripe is asked for the rest.",
    Status.PARKED_INCOMPLETE: "It carries a part of its object only; Stripe is asked for the whole.",
    Status.PARKED_UNFETCHABLE: "Stripe was asked for the rest and did not give it; replay it when the key may ask.",
    Status.PARKED_USER: "It waits for the event that makes its user known.",
    Status.PARKED_ORGANIZATION: "It waits for the event that makes its organization known.",
    Status.IGNORED_TYPE: "Nothing here follows from events of this type.",
    Status.IGNORED_MODE: "It is of the other mode (test or live) than this system.",
    Status.IGNORED_ACCOUNT: "It is of a connected account, not of ours.",
    Status.IGNORED_INSTANCE: "It is of another instance of Clerk than this system's.",
    Status.IGNORED_CHECKOUT: "It is of a checkout that sells no subscription.",
    Status.IGNORED_INVOICE: "It is of an invoice of no subscription.",
    Status.IGNORED_CUSTOMER: "It names no tenant.",
    Status.IGNORED_FOR_SALE: "Its price is still for sale.",
    Status.IGNORED_PRICE: "Its price is none of ours.",
    Status.IGNORED_GONE: "Its object does not exist at Stripe any more.",
    Status.IGNORED_ACTOR: "Somebody of ours acted as the user: it was no login of the person.",
    Status.IGNORED_OTHER: "Nothing followed from it.",
}

FLAGGED: Final = {
    Flag.REFUND: "money was filled back",
    Flag.DISPUTE: "a payment is disputed",
    Flag.FRAUD_WARNING: "the card's issuer warns of fraud",
    Flag.UNKNOWN_STATUS: "Stripe sent a status that is not known here",
    Flag.PRICE_RETIRED: "a price of ours cannot be bought any more",
    Flag.OTHER_TENANT_NAMED: "it names another tenant than its customer's",
    Flag.SEVERAL_SUBSCRIPTIONS: "the customer has several subscriptions",
    Flag.UNPAID_CHANGE: "a change was ordered and is not paid",
    Flag.INCOMPLETE: "not all of it could be read",
    Flag.CONTRADICTION: "it contradicts what is known",
    Flag.DELETED_TENANT: "it is money for a deleted tenant",
    Flag.OTHER: "it says something unforeseen",
}

NOT_APPLIED: Final = {
    "pending": "It was received, and its job waits to run.",
    "running": "It was received, and its job is at work on it.",
    "failed": "It was not applied: its job failed. Retry the job, or replay the event.",
    "cancelled": "It was not applied: its job was cancelled. Replay the event.",
    "completed": "Its job is done, and left no outcome. Replay the event.",
}


def became(event: dict[str, Any], job_status: str | None) -> list[str]:
    """Return what became of the event in sentences, the most important first. `job_status` is that of its job, if that
    is known."""
    status = event["status"]
    if status == Status.RECEIVED:
        lost = "It was received, and its job is not there any more. Replay the event."
        sentences = [NOT_APPLIED.get(job_status or "", lost)]
    else:
        sentences = [BECAME[Status(status)]]
        if job_status == "failed":
            sentences.append("Its job has failed since: see its attempts.")
    flags = [FLAGGED[Flag(each)] for each in (event["flag"] or "").split(",") if each]
    if flags:
        sentences.append(f"A person should look: {'; '.join(flags)}.")
    if event["duplicates"]:
        times = "once more" if event["duplicates"] == 1 else f"{event['duplicates']:,} more times"
        sentences.append(f"It was delivered {times}.")
    if event["dropped_at"] is not None:
        sentences.append("What it carried is not kept any more, so it cannot be replayed.")
    return sentences
