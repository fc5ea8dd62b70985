"""Files of the Hugging Face hub, in the cache that every tool shares: list, ask, download, resume, verify.

Large files are downloaded here and not by `hf_hub_download`, which throws away what has arrived when it is cut off
(issue 4196 of huggingface/huggingface_hub, open; seen in its version 2.4). The result lies where that function would
have put it, and that function links it. `_download` and `_resume` can go when the issue is closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hpskit.errors import HashMismatchError, NotCachedError, OutputError
from hpskit.files import expand, explain, publish_json, read_json, sha256_file

if TYPE_CHECKING:
    from huggingface_hub.file_download import HfFileMetadata

_T = TypeVar("_T")

_NO_HUB = "what answered is no hub, but for example the page on which a network or a proxy wants a login"
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")
"""Beginnings of web pages, and of the errors of storage services."""

_WAITS = (0.5, 1.5)
"""Seconds between attempts to ask the hub; a network that stays away costs two seconds, not half a minute."""
_PATIENCE = 8.0
"""Seconds after which the hub is not asked again: it does not refuse, it is silent."""


def home() -> Path:
    """Return the folder of everything that hpskit keeps between runs."""
    if value := os.environ.get("HPSKIT_HOME"):
        return expand(value)
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hpskit"


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFile:
    """A file that a repository has."""

    path: str
    """Inside the repository, with forward slashes."""
    size: int | None
    """In bytes; None if the hub does not say."""


def hub_files(repository: str, *, cure: str) -> tuple[HubFile, ...]:
    """List all files of a data set, in the order of their names.

    If the hub cannot be reached, or says no, its last answer on this machine is taken. `cure` closes the error.

    Raises:
        NotCachedError: the hub cannot be asked, and has not been before.
    """
    from huggingface_hub import HfApi, constants

    kept = home() / "listings" / f"datasets--{repository.replace('/', '--')}.json"
    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        try:
            info = _patiently(lambda: HfApi().dataset_info(repository, files_metadata=True, timeout=timeout))
        except _network_errors() as error:
            reason = _reason(error)
        except (ValueError, TypeError, KeyError):  # no JSON, or not that of a hub
            reason = _NO_HUB
        else:
            publish_json(kept, {file.rfilename: file.size for file in info.siblings or ()})
    if not kept.exists():
        raise NotCachedError(repository, f"has files that are not known on this machine, and {reason}", cure=cure)
    return tuple(HubFile(path=path, size=size) for path, size in sorted(read_json(kept).items()))


def hub_file(repository: str, file: str, *, repo_type: str = "model", cure: str) -> Path:
    """Return a file of the hub, in the Hugging Face cache; a download that was cut off goes on where it stopped.

    The hub is asked up to three times within two seconds. If it cannot be reached, or says no, the file that the
    cache has is taken; otherwise what it announces now is downloaded, and checked against its SHA-256. `repo_type` is
    `model` or `dataset`; `cure` closes the error.

    Raises:
        NotCachedError: it is not here and cannot be downloaded.
        HashMismatchError: what arrived is not what the hub announced; it was removed.
        OutputError: the cache cannot be written.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError

    cache = _hub_cache()
    what = f"{repository}/{file}"
    url = hf_hub_url(repository, file, repo_type=repo_type)
    announced, reason = None, "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            announced = _patiently(lambda: get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT))
        except _network_errors() as error:
            reason = _reason(error)
        else:
            if announced.commit_hash is None:
                announced, reason = None, _NO_HUB
    if announced is None:
        try:
            return Path(hf_hub_download(repository, file, repo_type=repo_type, cache_dir=cache, local_files_only=True))
        except LocalEntryNotFoundError as error:
            raise NotCachedError(what, f"is not on this machine and {reason}", cure=cure) from error
    try:
        blob = _download(repository, file, repo_type, announced)
        path = Path(hf_hub_download(repository, file, repo_type=repo_type, cache_dir=cache))
        if blob and not path.is_symlink():  # a file system without links: the hub's client has made a copy
            blob.unlink(missing_ok=True)
        return path
    except _network_errors() as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise OutputError(cache, f"{file} cannot be stored ({explain(error)})", cure="make room") from error
        again = f"what has arrived is kept; run the same command again to go on. {cure}"
        raise NotCachedError(what, f"was not downloaded to its end, {_reason(error)}", cure=again) from error


def announced_sha256(path: Path) -> str | None:
    """Return the SHA-256 that the hub announced: a large file in the cache is a link to a blob of that name.

    One step only: the blob may be a link itself, into a store where names are hashes of another kind.
    """
    name = path.readlink().name if path.is_symlink() else ""
    return name if _is_sha256(name) else None


def remove_download(path: Path) -> None:
    """Remove a file of the hub's cache with all that its link leads to."""
    chain = [path]
    while chain[-1].is_symlink():
        chain.append(chain[-1].parent / chain[-1].readlink())
    try:
        for part in chain:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(path, f"is damaged and cannot be removed ({explain(error)})", cure="remove it") from error


def _download(repository: str, file: str, repo_type: str, announced: HfFileMetadata) -> Path | None:
    """Download a large file to its place in the cache, as a blob that nothing links to yet, and verify it.

    Returns:
        The blob; None if there was nothing to do, or if the file is a small one, of which no SHA-256 is announced.
    """
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    sha256, size, commit = announced.etag or "", announced.size, announced.commit_hash
    cache = _hub_cache()
    known = try_to_load_from_cache(repository, file, cache_dir=cache, revision=commit, repo_type=repo_type)
    if not _is_sha256(sha256) or size is None or commit is None or isinstance(known, str):
        return None
    folder = f"{repo_type}s--{repository.replace('/', '--')}"
    blob = Path(cache) / folder / "blobs" / sha256
    lock = Path(cache) / ".locks" / folder / f"{sha256}.lock"
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return None
        partial = blob.with_name(f"{sha256}.incomplete")
        try:
            _resume(hf_hub_url(repository, file, repo_type=repo_type, revision=commit), partial, size)
        except KeyboardInterrupt as stop:
            stop.add_note("the same command goes on with the download")
            raise
        found = sha256_file(partial)
        if found != sha256:
            what = f"has the SHA-256 {found}{' and is a web page' if _is_page(partial) else ''}"
            partial.unlink()
            expected, cure = f"{sha256}, as the hub announced", "what arrived was removed; run the same command again"
            raise HashMismatchError(f"{repository}/{file}", what, expected=expected, cure=cure)
        partial.replace(blob)
    return blob


def _resume(url: str, partial: Path, size: int) -> None:
    """Download from where `partial` ends, again and again as long as each attempt brings something."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    while True:
        with partial.open("ab") as handle:
            start = handle.tell()
            try:
                return http_get(url, handle, resume_size=start, headers=headers, expected_size=size)
            except _network_errors():
                handle.flush()
                end = os.fstat(handle.fileno()).st_size
                if _is_page(partial):
                    partial.unlink()
                    raise OSError(_NO_HUB) from None
                if end > size:  # a server that sent everything again, or a remainder that was never right
                    partial.unlink()
                if end == start <= size or (start == 0 and end > size):
                    raise


def _is_page(path: Path) -> bool:
    """Tell whether a file begins like a web page."""
    with path.open("rb") as handle:
        return handle.read(512).lstrip().lower().startswith(_PAGES)


def _patiently(ask: Callable[[], _T]) -> _T:
    """Ask again if the hub cannot be reached, but not if it says no, and not for long."""
    started = time.monotonic()
    for wait in _WAITS:
        try:
            return ask()
        except _network_errors() as error:
            if _status(error) in range(400, 500) or time.monotonic() - started > _PATIENCE:
                raise
        time.sleep(wait)
    return ask()


def _hub_cache() -> str:
    from huggingface_hub import constants

    if os.environ.get("HPSKIT_HOME") and not (os.environ.get("HF_HOME") or os.environ.get("HF_HUB_CACHE")):
        return str(home() / "hub")
    return constants.HF_HUB_CACHE


def _network_errors() -> tuple[type[Exception], ...]:
    """Return what the hub's client raises if the network fails: errors of httpx2, httpx or requests, by version."""
    from huggingface_hub import errors

    return OSError, errors.HTTPError  # type: ignore[attr-defined]


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: BaseException) -> str:
    if (status := _status(error)) is not None:
        return f"the hub answered with status {status}"
    detail = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"the hub cannot be reached ({detail})"


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
