"""Downloads from a server of this machine, which breaks off, forgets and lies as the web does."""

import hashlib
import multiprocessing
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.runner import get_external_models, get_torchvision_models

from fvnet_mm.engine.download import cache_name, fetch, locate, resolve
from fvnet_mm.errors import UserError
from fvnet_mm.files import sha256_of

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAMED = f"/net-{SHA256[:8]}.pth"


@dataclass
class Server:
    """What the server does, which a test sets, and what it was asked."""

    url: str
    content: bytes = CONTENT
    etag: str | None = '"one"'
    length: str | None = None  # what it calls the length; None for the truth
    ranges: bool = True
    break_off_after: list[int] = field(default_factory=list)  # bytes of each of the next answers
    linked: str | None = None  # X-Linked-ETag of the redirect of /redirected/...
    status: int | None = None  # answer this
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range)
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Server = self.server.behaviour
        wanted = self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if self.path.startswith("/redirected/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/redirected"))
            self.send_header("X-Linked-ETag", server.linked or "")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.status or self.path == "/gone.pth":
            self.send_error(server.status or 404)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(server.content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        body = server.content[start:]
        self.send_header("Content-Length", server.length or str(len(body)))
        self.close_connection = server.length is not None
        self.end_headers()
        if server.break_off_after:
            body = body[: server.break_off_after.pop(0)]
            self.close_connection = True
        server.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.behaviour = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http.behaviour
    http.shutdown()
    thread.join()
    http.server_close()


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_fetched_once_and_whole(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    path = fetch(server.url + NAMED, folder=folder)
    assert path == folder / NAMED[1:]
    assert path.read_bytes() == CONTENT
    assert fetch(server.url + NAMED, SHA256, folder) == path
    assert len(server.requests) == 1
    assert visible(folder) == [path.name]


def test_broken_transfers_go_on_where_they_stopped(server: Server, tmp_path: Path) -> None:
    server.break_off_after = [300_000, 200_000]
    assert fetch(server.url + NAMED, folder=tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=300000-", "bytes=500000-"]
    assert server.sent == len(CONTENT), "something was sent twice"


def test_a_transfer_that_was_given_up_goes_on_at_the_next_start(server: Server, tmp_path: Path) -> None:
    server.break_off_after = [400_000, 0]
    with pytest.raises(UserError, match=r"broke off after 0\.4 of 1\.0 MB\); what came in is kept.*put the file at"):
        fetch(server.url + NAMED, folder=tmp_path)
    assert not (tmp_path / NAMED[1:]).exists()
    assert fetch(server.url + NAMED, folder=tmp_path).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert visible(tmp_path) == [NAMED[1:]]


@pytest.mark.parametrize("change", ["file", "no ranges", "no validator", "shorter"])
def test_what_cannot_be_resumed_starts_again(change: str, server: Server, tmp_path: Path) -> None:
    server.etag = None if change == "no validator" else server.etag
    server.break_off_after = [400_000] if change == "no validator" else [400_000, 0]
    if change != "no validator":
        with pytest.raises(UserError):
            fetch(server.url + "/net.pth", folder=tmp_path)
    if change == "file":
        server.content, server.etag = CONTENT[::-1], '"two"'
    elif change == "shorter":  # under the same name: 416
        server.content = CONTENT[:1000]
    server.ranges = change != "no ranges"
    assert fetch(server.url + "/net.pth", folder=tmp_path).read_bytes() == server.content


def test_without_a_hash_a_short_file_is_still_noticed(server: Server, tmp_path: Path) -> None:
    server.break_off_after = [0]
    with pytest.raises(UserError, match="broke off after 0"):
        fetch(server.url + "/net.pth", folder=tmp_path)
    assert not list(tmp_path.glob("*net.pth"))


def test_a_length_that_is_no_number_is_none(server: Server, tmp_path: Path) -> None:
    server.length = "unknown"
    assert fetch(server.url + "/net.pth", SHA256, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("source", ["argument", "name", "hugging face"])
def test_a_wrong_hash_is_refused_and_the_file_removed(source: str, server: Server, tmp_path: Path) -> None:
    server.linked = f'"{"0" * 64}"' if source == "hugging face" else None
    url = {"argument": "/net.pth", "name": "/net-00000000.pth", "hugging face": "/redirected/net.pth"}[source]
    sha256 = "0" * 64 if source == "argument" else None
    with pytest.raises(UserError, match=rf"has sha256 {SHA256} and not 0+, as expected, and was removed"):
        fetch(server.url + url, sha256, tmp_path)
    assert visible(tmp_path) == []


def test_hugging_face_vouches_for_its_files(server: Server, tmp_path: Path) -> None:
    server.linked = f'"{SHA256}"'
    assert fetch(server.url + "/redirected/net.pth", folder=tmp_path).read_bytes() == CONTENT
    server.linked = '"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"'  # a git hash: the file is not in large storage
    assert fetch(server.url + "/redirected/other.pth", folder=tmp_path).read_bytes() == CONTENT


def test_the_argument_goes_before_the_name(server: Server, tmp_path: Path) -> None:
    assert fetch(server.url + "/net-00000000.pth", SHA256[:10], tmp_path).read_bytes() == CONTENT


def test_a_date_in_a_name_is_no_hash(server: Server, tmp_path: Path) -> None:
    assert fetch(server.url + "/net-20230101.pth", folder=tmp_path).read_bytes() == CONTENT


def test_a_wrong_file_in_the_cache_is_replaced_only_by_a_right_one(server: Server, tmp_path: Path) -> None:
    path = tmp_path / NAMED[1:]
    path.write_bytes(b"wrong")
    server.status = 503
    with pytest.raises(UserError, match=r"answers 503.*the file there has not the sha256"):
        fetch(server.url + NAMED, folder=tmp_path)
    assert path.read_bytes() == b"wrong"
    server.status = None
    assert fetch(server.url + NAMED, folder=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/net.pth", "http://no-such-host.invalid/net.pth"])
def test_without_a_connection_the_place_for_the_file_is_named(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError) as caught:
        fetch(url, folder=tmp_path)
    assert re.search(
        rf"{url} could not be fetched \(.+\); .*put the file at {tmp_path / cache_name(url)}\.", str(caught.value)
    )
    (tmp_path / cache_name(url)).write_bytes(CONTENT)
    assert fetch(url, SHA256, tmp_path).read_bytes() == CONTENT


def test_what_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.pth could not be fetched \(the server answers 404 Not Found\)"):
        fetch(server.url + "/gone.pth", folder=tmp_path)


@pytest.mark.parametrize("url", ["ftp://host/a.pth", "https:///a.pth", "a.pth"])
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not an http or https URL"):
        fetch(url, folder=tmp_path)


@pytest.mark.parametrize("sha256", ["", "1234567", "x" * 64, "0" * 65])
def test_what_is_no_hash_is_refused(sha256: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no sha256"):
        fetch("https://host/a.pth", sha256, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be stored as .*TORCH_HOME"):
        fetch("https://host/a.pth", folder=tmp_path / "file" / "cache")


def test_processes_at_once_download_once(server: Server, tmp_path: Path) -> None:
    server.break_off_after = [700_000]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=fetch, args=(server.url + NAMED, None, tmp_path)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert server.sent == len(CONTENT)
    assert sha256_of(tmp_path / NAMED[1:]) == SHA256


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (
            "https://huggingface.co/timm/repvit_m1_1.dist_450e_in1k/resolve/main/model.safetensors",
            "timm--repvit_m1_1.dist_450e_in1k--model.safetensors",
        ),
        ("https://huggingface.co/a/b/resolve/v2/model.safetensors", "a--b--v2--model.safetensors"),
        ("https://download.pytorch.org/models/resnet50-0676ba61.pth", "resnet50-0676ba61.pth"),
        (
            "https://github.com/me/net/releases/download/v1/best.pth",
            "github.com--me--net--releases--download--v1--best.pth",
        ),
    ],
)
def test_names_in_the_cache(url: str, name: str) -> None:
    assert cache_name(url) == name


_WORDS = st.text("ab-_./?=%é ", max_size=300)


@given(first=_WORDS, second=_WORDS)
def test_names_in_the_cache_are_safe_and_each_their_own(first: str, second: str) -> None:
    names = [cache_name(f"https://host/{path}/net.pth") for path in (first, second)]
    for name in names:
        assert re.fullmatch(r"[\w.+-]{1,200}", name, re.ASCII)
        assert name not in (".", "..")
    if [part for part in first.split("/") if part] != [part for part in second.split("/") if part]:
        assert names[0] != names[1]


def test_names_in_catalogues() -> None:
    assert resolve("torchvision://resnet18") == get_torchvision_models()["resnet18"]
    assert resolve("open-mmlab://detectron2/resnet50_caffe") == get_external_models()["detectron2/resnet50_caffe"]
    assert resolve("/some/file.pth") == "/some/file.pth"
    with pytest.raises(UserError, match=r"resnet180: mmengine knows no weights.*resnet18"):
        resolve("torchvision://resnet180")


def test_locate(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(CONTENT)
    assert locate(path, SHA256) == path
    with pytest.raises(UserError, match="another file than the config means"):
        locate(path, "0" * 8)
    assert path.exists(), "a user's own file was removed"
    with pytest.raises(UserError, match="does not exist"):
        locate(tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"is a folder; name a file in it \(its newest is .*a\.pth\)"):
        locate(tmp_path)
    with pytest.raises(UserError, match="cannot be reached"):
        locate("s3://bucket/a.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert locate(server.url + NAMED) == tmp_path / "hub" / "checkpoints" / NAMED[1:]
