"""Fetching weights: resumed where a transfer broke off, checked by hash, kept whole in torch's own cache.

Only one process of a machine downloads a file; the others wait for it at a lock.
"""

import difflib
import hashlib
import http.client
import os
import re
import string
import sys
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import torch
from filelock import FileLock
from mmengine.logging import MMLogger
from mmengine.runner import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

import fvnet_mm
from fvnet_mm.errors import UserError
from fvnet_mm.files import sha256_of

_TIMEOUT = 30  # seconds without a sign of the server
_ATTEMPTS = 5
_CHUNK = 1 << 20
_LONGEST_NAME = 160  # file systems allow 255, and '.part' and '.lock' are added to it

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})$")
_DATE = re.compile(r"(19|20)\d{6}")
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')

_CATALOGUES = {
    "torchvision": get_torchvision_models,
    "modelzoo": get_torchvision_models,
    "open-mmlab": get_external_models,
    "openmmlab": get_external_models,
    "mmcls": get_mmcls_models,
}


class _NotFetched(Exception):
    """A transfer that failed; ``received`` bytes came in before."""

    def __init__(self, reason: object, received: int = 0) -> None:
        super().__init__(str(reason))
        self.received = received


def locate(source: str | Path, sha256: str | None = None) -> Path:
    """The local file behind what a config calls a checkpoint; downloaded if it is not there yet.

    Args:
        source: A path, an http(s) URL, or a name in one of mmengine's catalogues, such as
            ``torchvision://resnet50``.
        sha256: What the file must hash to, or the first 8 or more digits of it.

    Raises:
        UserError: There is no such file, it cannot be fetched, or its hash is another.
    """
    source = resolve(str(source))
    if source.startswith(("http://", "https://")):
        return fetch(source, sha256)
    if "://" in source:
        raise UserError(f"checkpoint {source} is at a place that cannot be reached; copy it and give its path.")
    path = Path(source).expanduser()
    if path.is_dir():
        newest = max(path.glob("*.pth"), key=lambda file: file.stat().st_mtime, default=None)
        hint = f"its newest is {newest}" if newest else "it holds no .pth file"
        raise UserError(f"checkpoint {path} is a folder; name a file in it ({hint}).")
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist; give the path or the URL of a .pth or .safetensors file.")
    wanted = _digits(sha256)
    if wanted is not None and not (actual := sha256_of(path)).startswith(wanted):
        raise UserError(f"checkpoint {path} is another file than the config means: sha256 {actual}, not {wanted}.")
    return path


def resolve(source: str) -> str:
    """The URL behind a name in one of mmengine's catalogues; anything else as it is.

    Raises:
        UserError: The catalogue does not have the name.
    """
    scheme, _, name = source.partition("://")
    if scheme not in _CATALOGUES:
        return source
    urls = _CATALOGUES[scheme]()
    if _CATALOGUES[scheme] is get_external_models:
        name = get_deprecated_model_names().get(name, name)
    if not urls.get(name):
        close = ", ".join(difflib.get_close_matches(name, urls, n=3)) or "none is close"
        raise UserError(f"{source}: mmengine knows no weights of this name; the closest are: {close}.")
    return urls[name]


def fetch(url: str, sha256: str | None = None, folder: Path | None = None) -> Path:
    """Downloads a file once.

    Its hash is checked against ``sha256``, else against the digits at the end of its name (``-cc3e1ac6.pth``, as
    OpenMMLab, torch and timm name files), else against the one that Hugging Face sends along; a file that none
    of them vouches for is not checked. What came in before a transfer broke off is kept beside the file as
    ``.part`` and completed at the next call, unless the file on the server has changed since.

    Args:
        url: An http or https URL.
        sha256: The expected hash, or the first 8 or more of its digits.
        folder: Where the file is kept; by default torch.hub's folder of checkpoints.

    Returns:
        The file in ``folder``, named :func:`cache_name`.

    Raises:
        UserError: The file cannot be fetched or stored, or its hash is wrong. The sentence says where to put it
            by hand.
    """
    if not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
        raise UserError(f"{url} is not an http or https URL.")
    folder = Path(torch.hub.get_dir()) / "checkpoints" if folder is None else Path(folder)
    path = folder / cache_name(url)
    wanted = _digits(sha256) or _digits_in(path)
    if _is_whole(path, wanted):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.name}.lock"):
            if not _is_whole(path, wanted):  # nobody fetched it while this process waited
                _download(url, path, wanted)
    except OSError as error:
        raise UserError(
            f"{url} cannot be stored as {path} ({error.strerror or error}); "
            "make room there, or set TORCH_HOME to another folder."
        ) from error
    return path


def cache_name(url: str) -> str:
    """The file name under which a URL is cached: readable, and no other URL's.

    A name that ends with its own hash is kept, and so shared with torch.hub and timm. Any other gets its place in
    front, as half of the web calls its weights ``model.safetensors``.
    """
    parts = urlsplit(url)
    folders = [part for part in parts.path.split("/") if part]
    if folders and _digits_in(Path(folders[-1])) and not parts.query:
        return folders[-1]
    if parts.hostname == "huggingface.co" and folders[2:3] == ["resolve"]:
        owner, repository, _, revision, *rest = folders
        words = [owner, repository, *([] if revision == "main" else [revision]), *rest]
    else:
        words = [parts.hostname + (f"_{parts.port}" if parts.port else ""), *folders]
    name = "--".join(words)
    readable = re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII)[-_LONGEST_NAME:]
    if readable == name and not parts.query and not any("--" in word for word in words):
        return name
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}--{readable}"


def _digits(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    digits = sha256.lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{8,64}", digits):
        raise UserError(f"{sha256!r} is no sha256; write its 64 hexadecimal digits, or the first 8 or more of them.")
    return digits


def _digits_in(path: Path) -> str | None:
    """The hash that a file carries in its name. Eight digits that are a date are none."""
    match = _HASH_IN_NAME.search(path.stem)
    return match[1] if match and not _DATE.fullmatch(match[1]) else None


def _is_whole(path: Path, wanted: str | None) -> bool:
    return path.is_file() and (wanted is None or sha256_of(path).startswith(wanted))


def _download(url: str, path: Path, wanted: str | None) -> None:
    part, validator = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.etag")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            linked = _transfer(url, part, validator)
            break
        except _NotFetched as error:
            if error.received and attempt < _ATTEMPTS:  # the line is shaky, but there is one
                continue
            kept = "; what came in is kept, and a new start goes on from there" if validator.is_file() else ""
            wrong = f" (the file there has not the sha256 {wanted})" if path.is_file() else ""
            raise UserError(
                f"{url} could not be fetched ({error}){kept}; without a connection, put the file at {path}{wrong}."
            ) from error
    validator.unlink(missing_ok=True)
    wanted = wanted or linked
    actual = sha256_of(part)
    if wanted is not None and not actual.startswith(wanted):
        part.unlink()
        raise UserError(
            f"what {url} gave has sha256 {actual} and not {wanted}, as expected, and was removed; "
            f"the address gives another file now, or something on the way changed it. The right one belongs at {path}."
        )
    part.replace(path)


def _transfer(url: str, part: Path, validator: Path) -> str | None:
    """Brings ``part`` to its full length; returns the sha256 that Hugging Face sends along, if any.

    Args:
        url: What to fetch.
        part: Receives the bytes; what it holds already is kept if the server agrees.
        validator: Holds the server's name for the version of the file that ``part`` is a beginning of. A server
            that names none is never asked to go on.
    """
    start = part.stat().st_size if part.is_file() and validator.is_file() else 0
    headers = {"User-Agent": f"fvnet_mm/{fvnet_mm.__version__}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator.read_text()}
    redirects = _Redirects()
    try:
        request = Request(quote(url, safe=string.punctuation), headers=headers)
        response = build_opener(redirects).open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            part.unlink()
            return _transfer(url, part, validator)
        raise _NotFetched(f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _NotFetched(getattr(error, "reason", None) or error) from error
    with response:
        answer = response.headers
        redirects.note(answer)
        resumed = response.status == http.client.PARTIAL_CONTENT
        if resumed and not answer.get("Content-Range", "").startswith(f"bytes {start}-"):
            validator.unlink()
            raise _NotFetched(f"the server sent {answer.get('Content-Range')!r} when asked for bytes {start} on")
        if not resumed:
            start = 0
            part.unlink(missing_ok=True)
            _keep_validator(answer, validator)
        length = answer.get("Content-Length", "")
        _receive(response, part, start, start + int(length) if length.isdecimal() else None)
    return redirects.linked


def _keep_validator(answer: Message, validator: Path) -> None:
    tag = answer.get("ETag", "")
    tag = tag if tag.startswith('"') else answer.get("Last-Modified", "")  # a weak tag promises nothing about bytes
    if tag:
        validator.write_text(tag)
    else:
        validator.unlink(missing_ok=True)


def _receive(response: http.client.HTTPResponse, part: Path, start: int, total: int | None) -> None:
    name = part.name.removesuffix(".part")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    terminal = sys.stderr.isatty()
    if not terminal:
        size = "" if total is None else f" ({total / 1e6:.1f} MB)"
        MMLogger.get_current_instance().info(f"fetching {name}{size}", extra={"announced": True})
    progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not terminal)
    position = start
    with progress, part.open("ab") as file:
        task = progress.add_task(name, total=total, completed=start)
        while chunk := _read(response, position - start):
            file.write(chunk)
            position += len(chunk)
            progress.update(task, completed=position)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and position != total:
        raise _NotFetched(f"it broke off after {position / 1e6:.1f} of {total / 1e6:.1f} MB", position - start)


def _read(response: IO[bytes], received: int) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _NotFetched(f"it broke off: {error}", received) from error


class _Redirects(HTTPRedirectHandler):
    """Follows redirects and keeps the hash that stands on the way: Hugging Face's, before it leads to its storage."""

    def __init__(self) -> None:
        self.linked: str | None = None

    def note(self, answer: Message) -> None:
        match = _SHA256.fullmatch(answer.get("X-Linked-ETag", ""))
        self.linked = self.linked or (match[1] if match else None)

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        self.note(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
