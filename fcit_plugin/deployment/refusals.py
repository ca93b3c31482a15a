"""Why a site's SuperNode has ended, by the words that Flower's SuperLink has for it (flwr 1.32)."""

import re

_DETAILS = re.compile(r'^\s*details = "(.*)"$', re.MULTILINE)
#: Words of a refusal, and what they mean at the site.
_MEANINGS = (
    (
        "No SuperNode found with the given public key",
        "The server does not know this site's key: hand over site.pub, and wait until the operator has enrolled it and started "
        "the run, or ask whether this site has been removed",
    ),
    (
        "could not be activated",
        "The server still takes an earlier SuperNode of this site for present, for a minute at most; if it goes on, another "
        "process has the same key: end that one",
    ),
    (
        "Invalid timestamp",
        "This machine's clock is more than 5 seconds ahead of the server's, or 5 minutes behind it; set both by NTP",
    ),
    ("Invalid node ID", "The SuperLink has been started again, and learns this site's key from the server's run"),
    ("Invalid signature", "The server does not take this site's signature; make a new key with `fcit-cli site renew`"),
)


#: What Flower prints when it has tried in vain to connect, and when it has come through.
TRIED, CAME_THROUGH = "Connection attempt failed", "Connection successful"


def is_cut_off(log: str) -> bool:
    """Whether the last that a SuperNode has printed of its connection is that it does not come through."""
    return log.rfind(TRIED) > log.rfind(CAME_THROUGH)


def says_how_it_goes(log: str) -> bool:
    """Whether there is anything in it by which :func:`is_cut_off` could tell."""
    return TRIED in log or CAME_THROUGH in log


def why_refused(log: str) -> str | None:
    """What a SuperNode was told last before it ended, without the full stop.

    Args:
        log: What it has printed.

    Returns:
        A sentence for whoever runs the site; None where nothing was refused.
    """
    told = _DETAILS.findall(log)
    if not told:
        return None
    last = str(told[-1])
    return next((meaning for words, meaning in _MEANINGS if words in last), f"The server says: {last[:300]}")
