"""Files on their way in: in pieces to the disk, within bounds, and nothing is left of those that are not kept."""

import asyncio
import io
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import aiohttp
import pytest
from openai import InternalServerError, NotFoundError

from millrace.batches.files import Files
from millrace.errors import MillraceError
from millrace.stores.batch_disk import FolderBatchDisk
from millrace.web.multipart import Form, Part
from millrace.wire import limits
from tests.support.batches import client_of
from tests.support.server import Running, Start, process_of
from tests.support.tenants import shared_server
from tests.support.waiting import until

TYPE = "multipart/form-data; boundary=b"


def body(*fields: tuple[str, bytes], boundary: str = "b") -> bytes:
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        % (boundary.encode(), name.encode(), b'; filename="f.jsonl"' if name == "file" else b"", content)
        for name, content in fields
    ]
    return b"".join(parts) + b"--%b--\r\n" % boundary.encode()


def read(content: bytes, size: int, content_type: str = TYPE) -> dict[str, bytes]:
    """Return the fields of a form that comes in pieces of a size."""
    form = Form(content_type)
    fields: dict[str, bytes] = {}
    name = ""
    for at in range(0, len(content), size):
        for found in form.feed(content[at : at + size]):
            if isinstance(found, Part):
                name = found.name
                fields.setdefault(name, b"")
            else:
                fields[name] += found
    form.end()
    fields.pop("", None)
    return fields


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_a_form_is_read_however_it_comes(size: int) -> None:
    """Contents with line ends, with beginnings of boundaries, and none at all."""
    contents = {"purpose": b"batch", "file": b"a\r\n--\r\n--c\r\n\r\n--", "empty": b"", "last": b"\r\n"}
    assert read(b"preamble\r\n" + body(*contents.items()), size) == contents
    assert read(body(*contents.items()) + b"epilogue", size) == contents


@pytest.mark.parametrize(
    ("content_type", "content", "words"),
    [
        ("application/json", b"{}", "send the file as multipart/form-data"),
        ("multipart/form-data", b"", "with a boundary"),
        (TYPE, body(("file", b"x"))[:-8], "ends too early"),
        (TYPE, b"--b\r\nContent-Type: x\r\n\r\n\r\n--b--", "a part has no name"),
        (TYPE, body(("", b"x")), "a part has no name"),
        (TYPE, b"--b\r\nX: " + b"x" * 20_000, "the head of a part is too long"),
        (TYPE, b"nothing", "ends too early"),
    ],
)
def test_what_is_no_form(content_type: str, content: bytes, words: str) -> None:
    with pytest.raises(MillraceError, match=words):
        read(content, 10, content_type)


def test_names_need_no_quotes() -> None:
    """As .NET sends them."""
    head = b"--b\r\nContent-Disposition: form-data; name=file; filename=a.jsonl; filename*=utf-8''a.jsonl\r\n\r\n"
    form = Form(TYPE)
    found = [*form.feed(head + b"{}\r\n--b--")]
    assert found[:2] == [Part("file", "a.jsonl"), b"{}"]


def test_a_form_of_many_parts_is_refused() -> None:
    """None of them is a file, so each would be kept in memory."""
    with pytest.raises(MillraceError, match="more than 64 parts"):
        read(body(*[(f"field-{n}", b"x") for n in range(65)]), 1000)


async def posted(url: str, content: Any, headers: dict[str, str] | None = None) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{url}/v1/files",
            data=io.BytesIO(content) if isinstance(content, bytes) else content,
            headers={"Content-Type": TYPE, **(headers or {})},
        ) as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([("file", b"{}")], "purpose: missing"),
        ([("purpose", b"vision"), ("file", b"{}")], "purpose: 'vision'"),
        ([("purpose", b"batch")], "file: missing"),
        ([("", b"batch"), ("file", b"{}")], "a part has no name"),
        ([("file", b"{}"), ("file", b"{}"), ("purpose", b"batch")], "file: there are two"),
        ([("purpose", b"x" * 2000), ("file", b"{}")], "purpose: longer than 1024 bytes"),
        ([("purpose", b"batch"), ("file", b""), ("expires_after[seconds]", b"soon")], r"expires_after\.seconds"),
    ],
)
async def test_a_form_that_is_refused_leaves_nothing(
    fields: list[tuple[str, bytes]], words: str, start: Start, tmp_path: Path
) -> None:
    async with start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running:
        status, text = await posted(running.url, body(*fields))
        assert status == 400
        assert re.search(words, text)
    assert [*(tmp_path / "files").glob("*")] == []


async def test_a_file_over_a_limit_is_refused_by_name(millrace: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes and lines, whether its length is told before or not; at the limit it is taken."""
    monkeypatch.setattr(limits, "BATCH_LINES", 3)
    monkeypatch.setattr(limits, "BATCH_BYTES", 3 * 10**6)
    whole = [("purpose", b"batch"), ("file", b"{}\n" * 3 + b"\n\n  \n")]
    assert (await posted(millrace.url, body(*whole)))[0] == 200
    status, text = await posted(millrace.url, body(("purpose", b"batch"), ("file", b"{}\n" * 4)))
    assert (status, "it has over 3 lines; a file has at most 3 MB and 3 lines: split it" in text) == (413, True)
    long = body(("purpose", b"batch"), ("file", b"x" * (3 * 10**6 + 1)))
    for content in (long, _pieces(long)):
        status, text = await posted(millrace.url, content)
        assert (status, "it has over 3 MB" in text) == (413, True)
    async with client_of(millrace.url) as client:
        assert [file.bytes for file in (await client.files.list()).data] == [len(whole[1][1])]
        assert process_of(millrace).batches.files.shares.used == len(whole[1][1])


async def _pieces(content: bytes) -> Any:
    for at in range(0, len(content), 2**17):
        yield content[at : at + 2**17]


async def test_a_file_is_longer_than_a_body_may_be(start: Start) -> None:
    """The bound of other bodies does not hold for it, and little of it is in memory."""

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"] |= {"max_message_bytes": 10_000, "memory_bytes": 16 * 2**20}

    async with start(change) as running, client_of(running.url) as client:
        content = b"x" * (30 * 2**20)
        file = await client.files.create(file=("a", content), purpose="batch")
        assert file.bytes == len(content)
        assert (await client.files.content(file.id)).content == content


async def test_what_is_compressed_is_refused(millrace: Running) -> None:
    status, text = await posted(millrace.url, b"", {"Content-Encoding": "gzip"})
    assert (status, "a file is uploaded as it is" in text) == (415, True)


async def test_a_client_that_goes_away_leaves_nothing(start: Start, tmp_path: Path) -> None:
    came = asyncio.Event()

    async def some() -> Any:
        yield body(("purpose", b"batch"), ("file", b"x" * 2**21))[:-50]
        came.set()
        await asyncio.sleep(60)

    async with start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running:
        sending = asyncio.create_task(posted(running.url, some()))
        await came.wait()
        await until(lambda: bool([*(tmp_path / "files").glob("*.part")]))
        sending.cancel()
        await until(lambda: not [*(tmp_path / "files").glob("*")])


async def test_tenants_share_the_disk(start: Start, tmp_path: Path) -> None:
    """One alone may have what leaves room for another; a deleted file makes room; the count outlives the process."""

    async def filled(shared: Any) -> None:
        async with client_of(shared.running.url, shared.keys["acme"]) as acme:
            with pytest.raises(Exception, match="delete some: DELETE /v1/files/FILE_ID"):
                await acme.files.create(file=("a", b"x" * 3000), purpose="batch")

    narrow = partial(_narrow, start)
    async with shared_server(narrow, tmp_path, "acme", "other") as shared:
        url = shared.running.url
        async with client_of(url, shared.keys["acme"]) as acme, client_of(url, shared.keys["other"]) as other:
            first = await acme.files.create(file=("a", b"x" * 3000), purpose="batch")
            await filled(shared)
            await other.files.create(file=("a", b"x" * 3000), purpose="batch")
    async with narrow(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as again:
        url = again.url
        async with client_of(url, shared.keys["acme"]) as acme:
            with pytest.raises(Exception, match="delete some"):
                await acme.files.create(file=("a", b"x" * 3000), purpose="batch")
            await acme.files.delete(first.id)
            await acme.files.create(file=("a", b"x" * 3000), purpose="batch")


def _narrow(start: Start, change: Callable[[dict[str, Any]], object]) -> AbstractAsyncContextManager[Running]:
    """Start a server that keeps little."""

    def changed(configuration: dict[str, Any]) -> None:
        configuration["batch"] = {"disk_bytes": 9000}
        change(configuration)

    return start(changed)


async def test_a_file_whose_row_is_not_written_leaves_no_bytes(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running,
        client_of(running.url) as client,
    ):
        await client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
        files = process_of(running).batches.files
        monkeypatch.setattr(files._store, "add_file", Mock(side_effect=MillraceError("overloaded", "not now")))
        with pytest.raises(InternalServerError, match="not now"):
            await client.files.create(file=("b.jsonl", b"{}"), purpose="batch")
        assert files.shares.used == 2
        assert len([*(tmp_path / "files").iterdir()]) == 1


async def test_a_file_without_bytes_is_not_found(start: Start, tmp_path: Path) -> None:
    """It is deleted between its row and its first byte."""
    async with (
        start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running,
        client_of(running.url) as client,
    ):
        made = await client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
        (tmp_path / "files" / made.id).unlink()
        with pytest.raises(NotFoundError, match=made.id):
            await client.files.content(made.id)


@pytest.mark.parametrize("step", ["append", "rename"])
async def test_a_disk_that_is_full_is_told_and_is_no_fault_of_millrace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Some file systems know it only when a file is synced."""
    disk = FolderBatchDisk(tmp_path, longest=1000)
    files = Files(disk, AsyncMock(), lambda: 0.0, keep_days=1, most_bytes=10**6, are_many=lambda: False)
    monkeypatch.setattr(disk, step, AsyncMock(side_effect=OSError(28, "No space left on device")))
    async with files.receiving("acme") as upload:
        await upload.add(b"{}")
        with pytest.raises(MillraceError, match="the file was not written: No space left on device"):
            await upload.keep("a.jsonl")
    assert not await asyncio.to_thread(lambda: [*tmp_path.iterdir()])
    assert files.shares.used == 0
    disk.close()
