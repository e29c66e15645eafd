"""The Hub without silent minutes: one quick question first, time-outs, and failures as one sentence.

What is usually wrong (no network, no such name, a licence not accepted) the first question tells within seconds. What
breaks later, the libraries try again before they give up: that takes up to a minute. No setting of theirs bounds a
connection that trickles on, or one that goes silent while files are being listed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ANSWER_SECONDS = 5.0
"""How long the first question may take."""
QUIET_SECONDS = 5
"""How long a download may stay without a byte. huggingface_hub tries six times, with up to 23 s between in all, and
`datasets` waits 5 s more: 58 s."""

OFFLINE = "work offline with the tiny profile (leave COURSE_PROFILE unset)"
"""The way out that is always open, as the end of a sentence."""
NETWORK = f"check the network, its log-in page and the proxy, then run this again, or {OFFLINE}"


class HubError(OSError):
    """The Hub did not give what was asked for; the message says why and what to do. ``reason``: a key of
    `SENTENCES`."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


SENTENCES = {
    "gated": f"The {{what}} is gated: open {{page}}, accept its licence, {{then}}, then run this again, or {OFFLINE}.",
    "missing": "There is no {what} on the Hub that you may see, and no folder of that name here: check its name, or "
               "log in with `hf auth login` if it is private.",
    "token": "The Hub ({hub}) refuses the {what} (error {status}): log in again with `hf auth login`, with a token "
             f"that may read gated repositories, or ask whoever runs this network's proxy, or {OFFLINE}.",
    "busy": "The Hub ({hub}) is too busy or out of order (error {status}): log in with `hf auth login`, which allows "
            f"more requests, and run this again in a few minutes, or {OFFLINE}.",
    "offline": "The {what} is not whole in the cache, and HF_HUB_OFFLINE keeps the Hub out of reach: unset it and "
               f"restart the kernel, or {OFFLINE}.",
    "unreachable": f"The Hub ({{hub}}) cannot be reached: {NETWORK}.",
    "broken off": f"The download of {{name}} broke off: {NETWORK}; whole files are not fetched twice.",
    "damaged": "The weights of {name} are damaged: run `hf cache rm model/{name}`, then run this again to fetch them "
               "anew, and if that does not help, ask at {page} whether they are whole.",
}

_DOWN = {"ConnectError", "ConnectTimeout", "ReadTimeout", "WriteTimeout", "ReadError", "WriteError", "ProxyError"}
"""Names of exceptions that httpx and httpx2 both have; huggingface_hub's version decides which of the two is used."""


def is_hub_id(name: object) -> bool:
    """Whether ``name`` reads like ``"owner/name"`` and is no folder here."""
    if not isinstance(name, str) or name.count("/") != 1 or name.startswith((".", "~", "/")) or name.endswith("/"):
        return False
    return not Path(name).is_dir()


def status_of(error: BaseException) -> int | None:
    """Of the answer that an HTTP client's error is about."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: BaseException) -> str | None:
    from huggingface_hub import errors
    from safetensors import SafetensorError

    name, status = type(error).__name__, status_of(error)
    if isinstance(error, errors.GatedRepoError):
        return "gated"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "missing"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "offline"
    if isinstance(error, SafetensorError) or "Consistency check failed" in str(error):
        return "damaged"
    if status is not None:
        return "token" if status in (401, 403) else "busy" if status == 429 or status >= 500 else None
    if name == "RemoteProtocolError":
        return "broken off"
    return "unreachable" if isinstance(error, ConnectionError | TimeoutError) or name in _DOWN else None


def explain(error: BaseException | None, repo_id: str, repo_type: str = "model") -> HubError | None:
    """What went wrong at the Hub and what to do, in one sentence; ``None`` where the Hub was not the matter. What led
    to the error is looked at too, for transformers and datasets wrap errors."""
    from huggingface_hub import constants, get_token

    while error is not None and not isinstance(error, HubError) and not (reason := _reason(error)):
        error = error.__cause__ or error.__context__
    if error is None or isinstance(error, HubError):
        return error
    hub, kind = constants.ENDPOINT, "data set" if repo_type == "dataset" else repo_type
    return HubError(SENTENCES[reason].format(
        what=f"{kind} {repo_id}", name=repo_id, hub=hub, status=status_of(error),
        page=f"{hub}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}",
        then="wait until your account is let in" if get_token() else "log in with `hf auth login`"), reason)


def _set_timeouts(repo_type: str) -> None:
    """The libraries' own settings, where they are still at their defaults; both are read anew at each download."""
    from huggingface_hub import constants

    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        if getattr(constants, name) == 10:
            setattr(constants, name, QUIET_SECONDS)
    if repo_type == "dataset":
        from datasets import config

        for name in ("STREAMING_OPEN_MAX_RETRIES", "STREAMING_READ_MAX_RETRIES"):
            if getattr(config, name) == 20:
                setattr(config, name, 1)  # huggingface_hub has tried six times by then


def check_access(repo_id: str, repo_type: str = "model") -> None:
    """Whether the Hub would let you read this repository (``"model"`` or ``"dataset"``) now, or `HubError`: asks for
    one small file, which takes seconds at most."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    url = hf_hub_url(repo_id, "README.md" if repo_type == "dataset" else "config.json", repo_type=repo_type)
    for last in (False, True):
        try:
            # Without a commit, the log-in page of some network has answered.
            if get_hf_file_metadata(url, timeout=ANSWER_SECONDS).commit_hash is None:
                raise ConnectionError
            return
        except EntryNotFoundError:
            return  # an answer, too
        except Exception as error:
            if _reason(error) == "broken off" and not last:
                continue  # a connection that was kept open since the last cell has been hung up: ask over a new one
            raise explain(error, repo_id, repo_type) or error from None


@contextmanager
def hub_access(repo_id: object, repo_type: str = "model") -> Iterator[dict]:
    """Load something from the Hub inside of this: it asks first, and says what is wrong and what to do.

    For anything but a Hub id (a folder, ``"tiny"``) it does nothing. Otherwise it asks whether the repository can be
    read, at the cost of one small request, and turns whatever goes wrong inside into a `HubError`. It shortens the
    libraries' time-outs for the rest of the process, unless you have set them (``HF_HUB_DOWNLOAD_TIMEOUT``).

    Yields:
        Keyword arguments for ``from_pretrained``: ``{"local_files_only": True}`` where the Hub cannot be reached but
        the model is in the cache (a line says so), else none.
    """
    if not is_hub_id(repo_id):
        yield {}
        return
    from huggingface_hub import constants, try_to_load_from_cache

    _set_timeouts(repo_type)
    options = {}
    try:
        if not constants.HF_HUB_OFFLINE:
            check_access(repo_id, repo_type)
    except HubError as error:
        files = ("config.json", "processor_config.json", "adapter_config.json")
        cached = any(isinstance(try_to_load_from_cache(repo_id, file), str) for file in files)
        if error.reason != "unreachable" or repo_type != "model" or not cached:
            raise
        print(f"The Hub cannot be reached: {repo_id} comes from the cache.")
        options = {"local_files_only": True}
    try:
        yield options
    except Exception as error:
        known = explain(error, repo_id, repo_type)
        if known is None and options and isinstance(error, OSError):  # the cache holds half of it
            known = explain(ConnectionError(), repo_id, repo_type)
        if known is None:
            raise
        raise known from None


def fetch_adapter(repo_id: str) -> Path:
    """Download an adapter, with the processor beside it, into the cache: the folder that holds it, or `HubError`."""
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.jinja", "adapter_model.safetensors"]
    with hub_access(repo_id) as options:
        return Path(snapshot_download(repo_id, allow_patterns=wanted, **options))
