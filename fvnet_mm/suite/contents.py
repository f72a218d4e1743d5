"""What is in the files that a job names, told by digests: an edited config or other weights are another training."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

from fvnet_mm.files import sha256_of
from fvnet_mm.places import CONFIGS, DESCRIPTIONS
from fvnet_mm.suite.jobs import DESCRIBED, Job

CONTENTS = ("config", "weights")
"""What of a job is a file whose contents count."""


def digest_of(job: Job, what: str) -> str | None:
    """The SHA-256 of a job's config or weights; None where there is no such file here, as for a URL.

    A config counts with the files that it is based on and that of the trunk that is put in, but without comments
    and blank lines. What it imports does not count.

    Args:
        job: Of a suite.
        what: One of ``CONTENTS``.
    """
    if what == "weights":
        return _of_file(Path(job.settings.weights), code=False) if job.settings.weights else None
    if what != "config":
        return None
    files = list(_with_bases(job.config, set()))
    if job.backbone is not None:
        # Joined to an absolute path, that of a description of one's own, a folder is left out.
        description = CONFIGS / DESCRIPTIONS / f"{job.backbone.removesuffix(DESCRIBED)}{DESCRIBED}"
        files += _with_bases(description, set())
    found = [_of_file(file, code=True) for file in files]
    return hashlib.sha256(repr(found).encode()).hexdigest() if found[0] is not None else None


def _with_bases(config: Path, seen: set[Path]) -> Iterator[Path]:
    if config not in seen:
        seen.add(config)
        yield config
        for base in _bases(config):
            yield from _with_bases((config.parent / base).resolve(), seen)


def _bases(config: Path) -> list[str]:
    """Files that a config is based on, as it writes them; without those of other packages (``mmdet::...``)."""
    try:
        body = ast.parse(config.read_bytes()).body
    except (OSError, SyntaxError, ValueError):  # what is wrong is said when it is loaded
        return []
    found = []
    for line in body:
        if isinstance(line, ast.Assign) and any(getattr(target, "id", None) == "_base_" for target in line.targets):
            words = [node.value for node in ast.walk(line.value) if isinstance(node, ast.Constant)]
            found += [word for word in words if isinstance(word, str) and "::" not in word]
    return found


def _of_file(file: Path, code: bool) -> str | None:
    try:
        known = file.stat()
        return _read(file, code, known.st_mtime_ns, known.st_size)
    except OSError:
        return None


@functools.lru_cache(maxsize=4096)
def _read(file: Path, code: bool, changed: int, size: int) -> str:
    """Weights are large and a job's state is asked for often, so a file is read again only when it has changed."""
    if code:
        return hashlib.sha256(_without_comments(file.read_bytes())).hexdigest()
    return sha256_of(file)


def _without_comments(code: bytes) -> bytes:
    # By tokens: what ast.dump writes is another text in each version of Python.
    try:
        tokens = list(tokenize.tokenize(io.BytesIO(code).readline))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return code
    kept = [token.string for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]
    return "".join(kept).replace("\r\n", "\n").encode(errors="surrogatepass")
