"""Whether the Connections page says of each connection what BigQuery says of it."""

import re
from collections.abc import Iterable, Mapping

import requests

TIMEOUT_SECONDS = 30

_ACCEPTED = re.compile(r"<dt>(?:Accepted|Sent to Segment)</dt><dd>([\d,]+)</dd>")


def check_page(page: str, token: str, connection_ids: Iterable[str], accepted: Mapping[str, int]) -> list[str]:
    """Log in as an admin would and read the last hour of each connection; what is wrong, a line each.

    `accepted`: the connection -> how many of its calls were written, or of its emails' events sent.
    """
    with requests.Session() as session:
        shut = session.get(page, timeout=TIMEOUT_SECONDS)
        if not shut.url.startswith(f"{page}/login"):
            return ["the Connections page shows itself to who is not logged in"]
        form = {"token": token, "next": "/"}
        opened = session.post(f"{page}/login", data=form, timeout=TIMEOUT_SECONDS)
        if "All that came in" not in opened.text:
            return [f"the Connections page does not open with its token: HTTP {opened.status_code}"]
        failures = []
        for connection_id in connection_ids:
            shown = session.get(f"{page}/connections/{connection_id}", timeout=TIMEOUT_SECONDS)
            found = _ACCEPTED.search(shown.text)
            number = int(found[1].replace(",", "")) if found else None
            if number != accepted.get(connection_id, 0):
                failures.append(
                    f"the Connections page says {number} accepted of {connection_id}, "
                    f"and counts says {accepted.get(connection_id, 0):,}"
                )
        return failures
