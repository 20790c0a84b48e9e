"""SendGrid's events as both baselines read them: the fields, the rejections and the programs of the workload.

Without Beam and without the pipeline's readers, which know four providers, thousands of programs and every odd field.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from benchmarks.name_persons import name_person
from schemas.rejections import Reason

WORKSPACE = "default"

# What is left of the user agent when Apple loads the images of an email that nobody may ever open.
APPLE_PREFETCH = "Mozilla/5.0"
SCANNER = "Mozilla/5.0 (compatible; BarracudaCentral; link protection)"
_PROGRAMS = frozenset({APPLE_PREFETCH, SCANNER})

REPORTED = frozenset({"delivered", "open", "click", "bounce", "spamreport", "unsubscribe"})
_NOT_REPORTED = frozenset({"deferred", "processed", "dropped"})


class Event(msgspec.Struct, gc=False):
    """The fields of a valid event that are read."""

    event: str
    email: str
    timestamp: int
    sg_event_id: str
    sg_message_id: str
    person_id: str | None = None
    user_id: str | None = None
    email_id: str | None = None
    campaign_id: str | None = None
    campaign_run_id: str | None = None
    singlesend_id: str | None = None
    singlesend_name: str | None = None
    url: str | None = None
    useragent: str | None = None
    ip: str | None = None
    sg_machine_open: bool = False

    def find_email_id(self) -> str:
        """Which email it was: the sender's id, else SendGrid's."""
        return self.email_id or self.sg_message_id.partition(".")[0]


def find_person(event: Event, persons: Mapping[str, str]) -> str:
    """The recipient: whom updates say that the address belongs to, else the sender's id, else the address' own."""
    return persons.get(event.email) or event.person_id or name_person(WORKSPACE, event.email)


def is_machine(event: Event) -> bool:
    """Whether a program opened the email or followed the link."""
    if event.event == "open":
        return event.sg_machine_open or event.useragent in _PROGRAMS
    return event.event == "click" and event.useragent in _PROGRAMS


def find_fault(fields: Any) -> Reason | None:
    """Why a line that was JSON is rejected, None if it is not."""
    if not isinstance(fields, dict):
        return Reason.BAD_REQUEST
    if fields.get("event") in _NOT_REPORTED:
        return Reason.EVENT_NOT_REPORTED
    if fields.get("event") not in REPORTED:
        return Reason.UNKNOWN_EVENT
    if not isinstance(fields.get("email"), str):
        return Reason.RECIPIENT_NOT_VALID
    return None if isinstance(fields.get("timestamp"), int) else Reason.TIMESTAMP_NOT_VALID
