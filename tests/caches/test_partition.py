"""The entries of one scope in memory: segments with and without an index, what goes first, snapshots."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from millrace.caches import segment
from millrace.caches.partition import Partition, Stored, places_in
from millrace.caches.segment import Segment, Vector
from millrace.caches.snapshots import PREFIX, Snapshots

SCOPE, OTHER = b"s" * 32, b"o" * 32
DIMENSIONS = 24


def vectors(count: int, dimensions: int = DIMENSIONS) -> Vector:
    drawn = np.random.default_rng(7).normal(size=(count, dimensions)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def test_a_bound_leaves_out_what_is_further_but_the_nearest_one() -> None:
    """So a miss still says how near the nearest one was."""
    points = vectors(500)
    held = filled(points, index_above=1000)
    near = held.nearest(points[7])
    some = held.nearest(points[7], near[5][0])
    assert numbers(some) == numbers(near)[:6]
    assert numbers(held.nearest(-points[7], 0.99)) == numbers(held.nearest(-points[7]))[:1]
    assert len(held.nearest(points[7], -1.0)) == segment.NEAREST


def id_of(number: int) -> str:
    return f"{PREFIX}{number + 1:024x}"


def entry(number: int, stored_at: float = 0.0) -> Stored:
    return Stored(id_of(number), question=f"question {number}", answer=b"", stored_at=stored_at)


def filled(points: Vector, index_above: int) -> Partition:
    found = Partition(points.shape[1], index_above)
    for number, point in enumerate(points):
        found.put(entry(number), point)
    return found


def finish(held: Partition) -> None:
    while held.needs_step:
        held.step()


def numbers(found: list[tuple[float, Stored]]) -> list[int]:
    return [int(stored.id.removeprefix(PREFIX), 16) - 1 for _, stored in found]


@pytest.mark.parametrize("rows", [segment.ROWS, 200])
def test_rows_and_indexes_agree(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, while and after the indexes are filled; with entries replaced and dropped; in one segment or in many."""
    monkeypatch.setattr(segment, "ROWS", rows)
    points = vectors(700)
    flat, indexed = filled(points, 10_000), filled(points, 50)
    asked = points + 0.05 * vectors(700)[::-1]
    while indexed.needs_step:
        assert numbers(indexed.nearest(asked[0]))[:4] == numbers(flat.nearest(asked[0]))[:4]
        indexed.step()
    for number in range(140):
        for held in (flat, indexed):
            held.drop(id_of(number))
    for number in (300, 301):
        for held in (flat, indexed):
            held.drop(id_of(number))
            held.put(entry(number), points[number + 1])
    agreed = [numbers(indexed.nearest(point))[:1] == numbers(flat.nearest(point))[:1] for point in asked]
    assert sum(agreed) >= 0.99 * len(agreed)
    assert not {stored for point in asked[:140] for stored in numbers(indexed.nearest(point))} & set(range(140))


@pytest.mark.parametrize("index_above", [10, 10_000])
def test_a_segment_of_which_a_quarter_is_gone_is_emptied_in_steps(
    index_above: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it is found after each step; then its rows are no more."""
    monkeypatch.setattr(segment, "ROWS", 200)
    points = vectors(500)
    held = filled(points, index_above)
    finish(held)
    for number in range(60):
        held.drop(id_of(number))
    assert held.needs_step
    while held.needs_step:
        assert [numbers(held.nearest(points[number]))[:1] for number in (61, 150, 450)] == [[61], [150], [450]]
        held.step()
    assert len(held) == 440
    assert sum(each.rows for each in held.segments) == 440
    assert sorted(each.rows for each in held.segments) == [40, 200, 200]
    assert all(numbers(held.nearest(points[number]))[:1] == [number] for number in range(60, 500))


def test_segments_become_larger_with_their_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few are searched: the small ones are emptied into larger ones, and all is found meanwhile."""
    monkeypatch.setattr(segment, "ROWS", 16)
    points = vectors(600)
    held = Partition(DIMENSIONS, 50)
    for number, point in enumerate(points):
        held.put(entry(number), point)
        if number % 2:
            held.step()
    while held.needs_step:
        assert [numbers(held.nearest(points[number]))[:1] for number in (3, 300, 599)] == [[3], [300], [599]]
        held.step()
    assert [each.room for each in held.segments] == [128] * 5
    assert sum(each.rows for each in held.segments) == 600
    assert all(numbers(held.nearest(point))[:1] == [number] for number, point in enumerate(points))


def test_expiry_goes_by_age_whatever_the_order() -> None:
    points = vectors(200)
    held = Partition(DIMENSIONS, 20)
    for number in np.random.default_rng(1).permutation(200):
        held.put(entry(int(number), stored_at=float(number)), points[number])
    finish(held)
    held.put(entry(3, stored_at=500.0), points[3])  # a newer answer
    held.expire(149.0)
    assert len(held) == 51
    finish(held)
    assert numbers(held.nearest(points[150]))[:1] == [150]
    assert numbers(held.nearest(points[3]))[:1] == [3]
    assert 149 not in numbers(held.nearest(points[149]))
    held.expire(1000.0)
    assert held.nearest(points[0]) == []
    held.put(entry(7), points[7])
    assert numbers(held.nearest(points[7])) == [7]


def test_replaced_entries_leave_nothing_behind() -> None:
    points = vectors(3)
    held = filled(points, 0)
    for at in range(1000):
        held.put(entry(1, stored_at=float(at)), points[1])
    assert len(held._oldest) < 100
    assert sum(each.rows for each in held.segments) == 3


def test_an_entry_that_is_hit_outlives_newer_ones() -> None:
    """Each hit lets it stay once more; a few at most count."""
    held = filled(vectors(10), 100)
    for _ in range(100):
        held.hit(id_of(0))
    held.hit(id_of(1))
    gone = [numbers([(0.0, held.evict())])[0] for _ in range(8)]
    assert gone == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [numbers([(0.0, held.evict())])[0] for _ in range(2)] == [1, 0]
    assert len(held) == 0


def test_an_empty_and_a_tiny_partition() -> None:
    """Fewer entries than candidates, with and without an index."""
    points = vectors(3)
    held = Partition(DIMENSIONS, 0)
    assert held.nearest(points[0]) == []
    for number, point in enumerate(points):
        held.put(entry(number), point)
        finish(held)
        assert numbers(held.nearest(point))[0] == number
    held.drop(id_of(0))
    assert 0 not in numbers(held.nearest(points[0]))


def test_without_hnswlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows serve alone, and one warning says so."""
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    monkeypatch.setattr(segment, "_warned", set())
    points = vectors(60)
    held = filled(points, 10)
    held.step()
    assert not held.needs_step
    assert numbers(held.nearest(points[33]))[0] == 33


@pytest.mark.parametrize("dimensions", [64, 256])
def test_none_of_many_that_are_much_alike_is_lost(dimensions: int, tmp_path: Path) -> None:
    """All are as near to one, which an index links them with, and as far from each other; also after a start."""
    rest = vectors(150, dimensions)
    hub = rest[0].copy()
    rest -= np.outer(rest @ hub, hub)
    alike = hub + 0.8 * rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)
    alike = np.asarray(alike / np.linalg.norm(alike, axis=1, keepdims=True), np.float32)
    held = filled(alike, 10)
    finish(held)
    (made,) = held.segments
    assert len(made.lost) > 1  # else the test shows nothing
    assert max(len(made.nearest(point, least=0.999)) for point in alike) <= segment.NEAREST + 1  # not all the lost ones
    assert [numbers(held.nearest(point))[0] for point in alike] == [*range(150)]
    kept = snapshots(tmp_path, dimensions=dimensions)
    kept.save(SCOPE, "", made.ids, made.lost, made.state())
    (again,) = kept.load(SCOPE)
    assert [max(again.nearest(point))[1] for point in alike] == [id_of(number) for number in range(150)]


def test_of_too_many_that_are_not_found_the_last_ones_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the newest, and the likeliest to be asked for."""
    monkeypatch.setattr(segment, "LOST", 5)
    monkeypatch.setattr(segment.Segment, "_is_found", lambda *_: False)
    points = vectors(12)
    made = Segment(DIMENSIONS, 200)
    for number, point in enumerate(points):
        made.add(id_of(number), point)
        made.index_step()
        made.check_step()
    assert sorted(made.lost) == [*range(7, 12)]
    monkeypatch.setattr(made, "_by_index", lambda *_: [])
    for number in range(7, 12):
        assert max(made.nearest(points[number]))[1] == id_of(number)


def test_of_those_that_are_not_found_a_removed_one_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that were removed hide none that is there, and which of them are the last is known after a start, too."""
    monkeypatch.setattr(segment, "ROWS", 100)
    monkeypatch.setattr(segment, "LOST", 60)
    monkeypatch.setattr(segment.Segment, "_is_found", lambda *_: False)
    points = vectors(62)
    points[:] = points[0] + 0.05 * points
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    made = indexed(points)
    assert made.lost == [*range(2, 62)]
    for row in range(2, 42):
        made.remove(row)
    monkeypatch.setattr(segment.Segment, "_by_index", lambda *_: [])
    near = made.nearest(points[50], least=0.9)
    assert {id_ for _, id_ in near} == {id_of(number) for number in range(42, 62)}
    kept = snapshots(tmp_path)
    kept.save(SCOPE, "", made.ids, made.lost, made.state())
    monkeypatch.setattr(segment, "LOST", 5)
    (again,) = kept.load(SCOPE)
    assert again.lost == [*range(57, 62)]


# Snapshots.


def indexed(points: Vector) -> Segment:
    made = Segment(points.shape[1], segment.ROWS)
    for number, point in enumerate(points):
        made.add(id_of(number), point)
    while made.indexed < made.rows:
        made.index_step()
    while made.needs_check:
        made.check_step()
    return made


def snapshots(folder: Path, embedder: str = "e 1", dimensions: int = DIMENSIONS, max_bytes: int = 2**30) -> Snapshots:
    return Snapshots(folder, embedder, dimensions, max_bytes=max_bytes, ttl_s=3600.0)


def test_an_index_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """With what was removed, and it can be filled further."""
    points = vectors(100)
    made = indexed(points[:90])
    made.remove(5)
    kept = snapshots(tmp_path)
    key = kept.save(SCOPE, "", made.ids, made.lost, made.state())
    kept.save(OTHER, "", made.ids, made.lost, made.state())
    assert kept.bytes_used == sum(path.stat().st_size for path in tmp_path.iterdir())
    (again,) = snapshots(tmp_path).load(SCOPE)
    assert (again.key, again.rows, again.live, again.is_indexed) == (key, 90, 89, True)
    for number in (5, 7, 89):
        assert sorted(again.nearest(points[number])) == sorted(made.nearest(points[number]))
    again.add(id_of(95), points[95])
    again.index_step()
    assert max(again.nearest(points[95]))[1] == id_of(95)


def test_after_a_start_the_segment_that_was_being_filled_is_filled_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or each start would leave one more to search."""
    monkeypatch.setattr(segment, "ROWS", 100)
    points = vectors(160)
    kept = snapshots(tmp_path)
    before = filled(points[:130], 20)
    finish(before)
    for each in before.segments:
        kept.save(SCOPE, "", each.ids, each.lost, each.state())
    held = filled(points[:10], 20)  # what is read first
    for each in kept.load(SCOPE):
        held.restore(each, places_in(each))
    held.put(entry(155), points[155])  # it is stored meanwhile
    for number in range(10, 130):
        held.put(entry(number), points[number], goes_first=True)
    held.claimed()
    for number in range(130, 160):
        held.put(entry(number), points[number])
    finish(held)
    assert sorted(each.rows for each in held.segments) == [60, 100]
    assert all(numbers(held.nearest(point))[:1] == [number] for number, point in enumerate(points))


def test_a_snapshot_with_any_byte_flipped_is_deleted_and_never_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = indexed(vectors(20, 4))
    kept = snapshots(tmp_path, dimensions=4)
    kept.save(SCOPE, "", made.ids, made.lost, made.state())
    (path,) = tmp_path.iterdir()
    sound = path.read_bytes()
    header = 36 + int.from_bytes(sound[32:36])
    spread = np.random.default_rng(2).integers(header, len(sound), 200).tolist()
    monkeypatch.setattr(Segment, "restored", lambda *_: pytest.fail("it was loaded"))
    for at in [*range(header), *spread, len(sound) - 1]:
        damaged = bytearray(sound)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        assert list(kept.load(SCOPE)) == []
        assert not path.exists()


def test_what_is_copied_counts_only_while_indexes_are_loaded(tmp_path: Path) -> None:
    """Also where the reader has no room for the rest of them."""
    made = indexed(vectors(20))
    kept = snapshots(tmp_path)
    for _ in range(2):
        kept.save(SCOPE, "", made.ids, made.lost, made.state())
    for _ in kept.load(SCOPE):
        assert kept.copied_bytes > 0
        break
    assert kept.copied_bytes == 0


@pytest.mark.parametrize("keep", [0, 10, 40, 200, -1])
def test_a_snapshot_that_was_cut_is_deleted(tmp_path: Path, keep: int) -> None:
    made = indexed(vectors(20))
    kept = snapshots(tmp_path)
    kept.save(SCOPE, "", made.ids, made.lost, made.state())
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    assert list(kept.load(SCOPE)) == []
    assert not path.exists()


@pytest.mark.parametrize("other", [{"embedder": "e 2"}, {"dimensions": 25}])
def test_a_snapshot_of_another_embedder_is_deleted(tmp_path: Path, other: dict[str, object]) -> None:
    made = indexed(vectors(20))
    snapshots(tmp_path).save(SCOPE, "", made.ids, made.lost, made.state())
    assert list(snapshots(tmp_path, **other).load(SCOPE)) == []  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_snapshots_are_bounded_in_bytes(tmp_path: Path) -> None:
    """The latest ones stay; what was not written to its end goes too, once nobody can be writing it."""
    made = indexed(vectors(20))
    kept = snapshots(tmp_path)
    keys = [kept.save(SCOPE, "", made.ids, made.lost, made.state()) for _ in range(4)]
    size = kept.bytes_used // 4
    for age, key in enumerate(reversed(keys)):
        path = kept._path(SCOPE, key)
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    (tmp_path / "x.partial").write_bytes(b"")
    os.utime(tmp_path / "x.partial", (0, 0))
    narrow = snapshots(tmp_path, max_bytes=2 * size + 10)
    narrow.tidy()
    assert [each.key for each in narrow.load(SCOPE)] == keys[2:]
    assert narrow.bytes_used == 2 * size
    assert not (tmp_path / "x.partial").exists()


def test_restored_segments_take_their_entries_and_drop_the_others() -> None:
    """Entries that are there already are found once; rows whose entries do not come are removed."""
    points = vectors(100)
    held = Partition(DIMENSIONS, 10)
    for number in range(90, 100):
        held.put(entry(number), points[number])
    restored = indexed(points)
    held.restore(restored, places_in(restored))
    assert numbers(held.nearest(points[95]))[0] == 95
    assert set(numbers(held.nearest(points[20]))) <= set(range(90, 100))  # the others are still to come
    for number in range(30, 90):
        held.put(entry(number), points[number], goes_first=True)
    held.claimed()
    finish(held)
    assert numbers(held.nearest(points[45]))[0] == 45
    assert sorted(number for number in numbers(held.nearest(points[5]))) == sorted(
        set(numbers(held.nearest(points[5])))
    )
    assert sum(each.live for each in held.segments) == len(held) == 70
    assert numbers([(0.0, held.evict())]) == [89]
