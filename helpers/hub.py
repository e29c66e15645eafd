"""The Hub without silent minutes: one quick question first, waiting that ends, and failures as one sentence.

Left alone, the libraries retry for 23 seconds (`datasets`) to over two minutes (a processor) before they say that there
is no network, and wait for ever for a server that accepts a connection and then says nothing: several of their requests
have no timeout at all. `hub_access` goes around each use of the Hub in this package.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ANSWER_SECONDS = 5.0
"""How long the first question may take."""
READ_SECONDS = 8.0
"""How long one request may stay without a byte; the libraries' own default is 10 s, or none."""
LEAST_PATIENCE, MOST_PATIENCE = 10.0, 120.0
"""How long failures are put up with, in seconds: for as long as the Hub had worked before, within these."""
LEAST_BYTES = 16_384
"""Fewer bytes than these within the patience are no progress."""

OFFLINE = "work offline with the tiny profile (leave COURSE_PROFILE unset)"
"""The way out that is always open, as the end of a sentence."""
NETWORK = f"check the network and the proxy, then run this again, or {OFFLINE}"


class HubError(OSError):
    """The Hub did not give what was asked for; the message says why and what to do.

    Attributes:
        reason: ``"gated"``, ``"missing"``, ``"token"``, ``"offline"``, ``"unreachable"``, ``"busy"``, ``"broken off"``
            or ``"damaged"``.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def is_hub_id(name: object) -> bool:
    """Whether ``name`` reads like ``"owner/name"`` and is no folder here."""
    if not isinstance(name, str) or name.count("/") != 1 or name.startswith((".", "~", "/")) or name.endswith("/"):
        return False
    return not Path(name).is_dir()


# --------------------------------------------------------------------------------------------------------- patience
class _Patience:
    """How long the Hub has been failing, and whether that is long enough."""

    def __init__(self) -> None:
        self.begin()
        self.end()

    def begin(self) -> None:
        """A new start, with nothing known about the Hub. Until `end`, the first failure that lasts is the last word."""
        self.worked_from = self.worked_until = self.failing_since = None
        self.final, self.gave_up = True, None

    def end(self) -> None:
        """A later failure, such as in the middle of a stream, may be tried again."""
        self.final, self.gave_up = False, None

    def worked(self) -> None:
        self.worked_until = time.monotonic()
        self.worked_from = self.worked_from or self.worked_until
        self.failing_since = None

    @property
    def seconds(self) -> float:
        # A download that has run for an hour deserves more than one that never began.
        earned = self.worked_until - self.worked_from if self.worked_from else 0.0
        return min(max(earned, LEAST_PATIENCE), MOST_PATIENCE)

    def left(self, started: float) -> float:
        """Seconds until it is enough, for a request that ``started`` then."""
        return self.seconds - (time.monotonic() - (self.failing_since or started))

    def failed(self, started: float, how: str = "has not answered") -> None:
        """Note a failure; raises `HubError` when it is enough."""
        self.failing_since = self.failing_since or started
        if self.left(started) <= 0:
            self.give_up(how)

    def give_up(self, how: str) -> None:
        """Raise the last word about the Hub."""
        error = HubError(f"The Hub ({_endpoint()}) {how} for {self.seconds:.0f} s: {NETWORK}.", "unreachable")
        self.failing_since = None
        if self.final:
            self.gave_up = error
        raise error from None


_patience = _Patience()


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _patient(client):
    """Make an HTTP client of `huggingface_hub` lose its patience; returns the client."""
    http = importlib.import_module(type(client).__module__.partition(".")[0])  # httpx, or httpx2 since version 2
    transient = http.TimeoutException, http.NetworkError, http.RemoteProtocolError

    class Watched(http.SyncByteStream):
        """A response's body that counts what arrives. Time that the reader spends elsewhere does not count."""

        def __init__(self, stream, is_answer: bool) -> None:
            self.stream, self.is_answer = stream, is_answer

        def __iter__(self) -> Iterator[bytes]:
            pieces, waited, got = iter(self.stream), 0.0, 0
            while True:
                started = time.monotonic()
                try:
                    piece = next(pieces)
                except StopIteration:
                    if self.is_answer:
                        _patience.worked()
                    return
                except transient:
                    _patience.failed(started)
                    raise
                waited, got = waited + time.monotonic() - started, got + len(piece)
                if got >= LEAST_BYTES:
                    _patience.worked()
                    waited, got = 0.0, 0
                elif waited > _patience.seconds:
                    _patience.give_up(f"has sent {got} bytes, that is next to nothing,")
                yield piece

        def close(self) -> None:
            self.stream.close()

    @functools.wraps(client.send)
    def send(request, *, stream=False, send=client.send, **kwargs):
        if _patience.gave_up:
            raise _patience.gave_up  # what the library asks next, instead of stopping, would only take its time too
        started = time.monotonic()
        reading = request.method in ("GET", "HEAD")
        if reading:  # an upload may take its time, and keeps the library's own retries
            left = max(1.0, _patience.left(started))
            limits = {"connect": min(ANSWER_SECONDS, left), "read": min(READ_SECONDS, left)}
            asked = request.extensions.get("timeout") or {}
            shorter = {name: min(asked.get(name) or limit, limit) for name, limit in limits.items()}
            request.extensions["timeout"] = {**asked, **shorter}
        try:
            response = send(request, stream=True, **kwargs)
        except transient:
            if reading:
                _patience.failed(started)
            raise
        to_be_retried = response.status_code in (408, 429) or response.status_code >= 500  # so the libraries see it
        response.stream = Watched(response.stream, is_answer=not to_be_retried)
        try:
            if to_be_retried and reading:
                _patience.failed(started, f"has answered with error {response.status_code}")
            if not stream:
                response.read()
        except BaseException:
            response.close()
            raise
        return response

    client.send = send
    return client


def _be_patient() -> None:
    """From now on, `huggingface_hub` in this process uses clients that lose their patience; twice is harmless."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    make = _http._GLOBAL_CLIENT_FACTORY  # there is no public way to ask; a learner's own factory is kept
    if not getattr(make, "patient", False):
        @functools.wraps(make)
        def make_patient():
            return _patient(make())

        make_patient.patient = True
        set_client_factory(make_patient)


# ----------------------------------------------------------------------------------------------------- explanations
def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


_DOWN = {"ConnectError", "ConnectTimeout", "ReadTimeout", "WriteTimeout", "ReadError", "WriteError", "ProxyError"}
"""Names of exceptions that httpx and httpx2 both have; huggingface_hub's version decides which of the two is used."""


def explain(error: BaseException, repo_id: str, repo_type: str = "model") -> HubError | None:
    """What went wrong at the Hub and what to do, in one sentence; ``None`` where the Hub was not the matter.

    Args:
        error: what the library raised. What led to it is looked at too: transformers and datasets wrap errors.
        repo_id: the repository that was asked for.
        repo_type: ``"model"`` or ``"dataset"``.
    """
    if _patience.gave_up:
        return _patience.gave_up
    known = (_explain_one(cause, repo_id, repo_type) for cause in _causes(error))
    return next(filter(None, known), None)


def _explain_one(error: BaseException, repo_id: str, repo_type: str) -> HubError | None:
    from huggingface_hub import errors, get_token
    from safetensors import SafetensorError

    what = f"data set {repo_id}" if repo_type == "dataset" else f"{repo_type} {repo_id}"
    page = f"{_endpoint()}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, HubError):
        return error
    if isinstance(error, errors.GatedRepoError):
        then = "wait until your account is let in" if get_token() else "log in with `hf auth login`"
        return HubError(f"The {what} is gated: open {page}, accept its licence, {then}, then run this again, or "
                        f"{OFFLINE}.", "gated")
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(f"There is no {what} on the Hub that you may see, and no folder of that name here: check its "
                        "name, or log in with `hf auth login` if it is private.", "missing")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(f"The {what} is not whole in the cache, and HF_HUB_OFFLINE keeps the Hub out of reach: unset "
                        f"it and restart the kernel, or {OFFLINE}.", "offline")
    if isinstance(error, SafetensorError) or "Consistency check failed" in str(error):
        return HubError(f"The weights of {repo_id} arrived damaged, and were taken out of the cache: run this again to "
                        f"fetch them anew, and if that does not help, ask at {page} whether they are whole.", "damaged")
    if status == 401:
        return HubError("The Hub does not accept the stored token: log in again with `hf auth login`, then run this "
                        f"again, or {OFFLINE}.", "token")
    if status == 403:
        return HubError(f"The Hub ({_endpoint()}) refuses the {what}: let your token read gated repositories (in its settings "
                        f"on the Hub), ask whoever runs this network's proxy, or {OFFLINE}.", "token")
    if status == 429:
        return HubError(f"The Hub ({_endpoint()}) wants fewer requests from this address: log in with `hf auth login`, "
                        f"which allows more, wait a few minutes and run this again, or {OFFLINE}.", "busy")
    if status is not None and status >= 500:
        return HubError(f"The Hub ({_endpoint()}) is out of order (error {status}): run this again in a few minutes, "
                        f"or {OFFLINE}.", "busy")
    if type(error).__name__ == "RemoteProtocolError":
        return HubError(f"The download of {repo_id} broke off: {NETWORK}; whole files are not fetched twice.",
                        "broken off")
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ in _DOWN:
        return HubError(f"The Hub ({_endpoint()}) cannot be reached: {NETWORK}.", "unreachable")
    return None


def _ask(repo_id: str, repo_type: str) -> None:
    """Ask for one file of the repository: that needs the network, the repository, and leave to read it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    url = hf_hub_url(repo_id, "README.md" if repo_type == "dataset" else "config.json", repo_type=repo_type)
    try:
        try:
            found = get_hf_file_metadata(url, timeout=ANSWER_SECONDS)
        except Exception as error:
            if type(error).__name__ != "RemoteProtocolError":
                raise
            # The server has hung up a connection that was kept open since the last cell: ask over a new one.
            found = get_hf_file_metadata(url, timeout=ANSWER_SECONDS)
    except EntryNotFoundError:
        return  # an answer, too
    if found.commit_hash is None:
        raise HubError(f"What answers at {_endpoint()} is not the Hub (perhaps a log-in page of the network): open it "
                       f"in a browser, then run this again, or {OFFLINE}.", "unreachable")


def _is_cached(repo_id: str) -> bool:
    """Whether something of a model is in the cache; whether all is, turns out when it is loaded."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repo_id, file), str)
               for file in ("config.json", "processor_config.json", "adapter_config.json"))


def _remove_damaged_weights(repo_id: str) -> None:
    """Take weights that cannot be read out of the cache, so that they are fetched anew the next time."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name
    from safetensors import SafetensorError, safe_open

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model") / "snapshots"
    for file in folder.rglob("*.safetensors"):
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError:
            with suppress(OSError):  # Windows keeps files that are still open; the message matters more
                file.resolve().unlink(missing_ok=True)
                file.unlink(missing_ok=True)
        except OSError:
            pass  # a file that cannot be opened now need not be damaged


@contextmanager
def _explained(repo_id: str, repo_type: str, from_cache: bool = False) -> Iterator[None]:
    """Patience that ends, and errors that say what to do."""
    _be_patient()
    _patience.begin()
    try:
        yield
    except Exception as error:
        known = explain(error, repo_id, repo_type)
        if known is None and from_cache and isinstance(error, OSError):
            known = HubError(f"The {repo_type} {repo_id} is not whole in the cache, and the Hub ({_endpoint()}) cannot "
                             f"be reached: {NETWORK}.", "unreachable")
        if known is None:
            raise
        if known.reason == "damaged":
            _remove_damaged_weights(repo_id)
        raise known from None
    finally:
        _patience.end()


def check_access(repo_id: str, repo_type: str = "model") -> None:
    """Whether the Hub would let you read this repository now; takes a few seconds at most.

    Args:
        repo_id: ``"owner/name"``.
        repo_type: ``"model"`` or ``"dataset"``.

    Raises:
        HubError: no network, no such repository, or no leave to read it; the message says what to do.
    """
    with _explained(repo_id, repo_type):
        _ask(repo_id, repo_type)


@contextmanager
def hub_access(repo_id: object, repo_type: str = "model") -> Iterator[dict]:
    """Load something from the Hub inside of this: it says in seconds what is wrong, and what to do.

    For anything but a Hub id it does nothing. Otherwise it asks first whether the repository can be read, at the cost
    of one small request, and turns whatever goes wrong inside into a `HubError` of one sentence. From then on, also
    outside of this and until the kernel ends, requests to the Hub give up once they have failed for as long as they had
    worked before, between `LEAST_PATIENCE` and `MOST_PATIENCE` seconds. Downloads through Xet keep their own patience.

    Args:
        repo_id: ``"owner/name"``; a folder, ``"tiny"`` and the like pass through.
        repo_type: ``"model"`` or ``"dataset"``.

    Yields:
        Keyword arguments for ``from_pretrained``: ``{"local_files_only": True}`` where the Hub cannot be reached but
        the model is in the cache (a line says so), else none.

    Raises:
        HubError: see `check_access`; or the download broke off, was damaged, or came too slowly.
    """
    if not is_hub_id(repo_id):
        yield {}
        return
    from huggingface_hub import constants

    options = {}
    if not constants.HF_HUB_OFFLINE:
        try:
            check_access(repo_id, repo_type)
        except HubError as error:
            if error.reason != "unreachable" or repo_type != "model" or not _is_cached(repo_id):
                raise
            print(f"The Hub cannot be reached: {repo_id} comes from the cache.")
            options = {"local_files_only": True}
    with _explained(repo_id, repo_type, from_cache=bool(options)):
        yield options


def fetch_adapter(repo_id: str) -> Path:
    """Download an adapter, with the processor that lies beside it, into the cache.

    Returns:
        The folder that holds it.

    Raises:
        HubError: see `hub_access`.
    """
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.jinja", "adapter_model.safetensors"]
    with hub_access(repo_id) as options:
        return Path(snapshot_download(repo_id, allow_patterns=wanted, **options))
