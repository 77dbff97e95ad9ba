"""URLs as people may see them."""

from urllib.parse import urlsplit, urlunsplit


def shown(url: str) -> str:
    """Return a URL without user, password, query and fragment: a signed one is a credential."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a malformed URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
