"""Whether the Hugging Face hub can be reached. Its own client repeats failed requests for most of a minute."""

from __future__ import annotations

import urllib.error
import urllib.request

CONNECT_SECONDS = 5.0


def reach_hub() -> None:
    """Raise OSError unless the hub answers, through a proxy where the environment names one."""
    from huggingface_hub import constants

    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=CONNECT_SECONDS).close()
    except urllib.error.HTTPError as answer:
        answer.close()
