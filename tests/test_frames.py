"""The packets: what Python packs, C unpacks, and the other way round; nothing else gets through."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import link_device
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from link_device import Device

from firmware_tools.frames import END, REPLY, WAKE, Kind, Packet, pack, sequence_of, stuff, unpack, unstuff

needs_compiler = pytest.mark.skipif(not link_device.can_compile(), reason="needs POSIX and gcc or clang")
# long stretches with few zeros are where stuffing has its corners
bodies = st.binary(max_size=1100) | st.lists(st.sampled_from([0, 1, 255]), max_size=600).map(bytes)
packets = st.builds(Packet, st.integers(0, 255), st.integers(0, 255), bodies)


@pytest.mark.parametrize(
    ("plain", "stuffed"),
    [
        (b"", "01"),
        (b"\0", "0101"),
        (b"\0\0", "010101"),
        (b"\x11\x22\0\x33", "0311220233"),
        (b"\x11\0\0\0", "0211010101"),
        (bytes(range(1, 255)), "ff" + bytes(range(1, 255)).hex() + "01"),
        (bytes(range(256)), "01ff" + bytes(range(1, 255)).hex() + "02ff"),
    ],
)
def test_stuffing_of_known_bytes(plain: bytes, stuffed: str) -> None:
    """Examples of the COBS paper; after a full block comes an empty one, which readers of COBS take as nothing."""
    assert stuff(plain).hex() == stuffed
    assert unstuff(stuff(plain)) == plain


def test_crc_is_ccitt_false() -> None:
    """The check value that catalogues of CRCs give for the digits 1 to 9 is 0x29B1."""
    assert unpack(stuff(b"123456789\xb1\x29")) == Packet(ord("1"), ord("2"), b"3456789")


@given(packets)
def test_the_sequence_is_found_without_a_check(packet: Packet) -> None:
    assert sequence_of(pack(packet).rstrip(END)) == packet.sequence
    assert sequence_of(b"") is None and sequence_of(b"\1") is None


@given(bodies)
def test_stuffing_is_undone(data: bytes) -> None:
    stuffed = stuff(data)
    assert 0 not in stuffed
    assert len(stuffed) <= len(data) + len(data) // 254 + 1
    assert unstuff(stuffed) == data


@given(packets)
def test_packing_is_undone(packet: Packet) -> None:
    data = pack(packet)
    assert data.endswith(END) and data.count(END) == 1
    assert unpack(data[:-1]) == packet


@given(st.binary(max_size=40))
@example(b"")
@example(b"\x05\x01")
def test_garbage_is_no_packet(data: bytes) -> None:
    packet = unpack(data)
    assert packet is None or pack(packet)[:-1] == data


@given(packets, st.data())
def test_a_flipped_bit_is_noticed(packet: Packet, data: st.DataObject) -> None:
    plain = bytearray(unstuff(pack(packet)[:-1]) or b"")
    at = data.draw(st.integers(0, 8 * len(plain) - 1))
    plain[at // 8] ^= 1 << at % 8
    assert unpack(stuff(bytes(plain))) is None


def test_wake_is_no_packet() -> None:
    assert [unpack(part) for part in WAKE.split(END)] == [None, None, None]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    if not link_device.can_compile():
        pytest.skip("needs POSIX and gcc or clang")
    device = Device(link_device.compile_device(tmp_path_factory.mktemp("device")))
    yield device
    device.end()


class Wire:
    """Raw stretches to and from the firmware in frames mode; WAKE goes before each, as the device may have left."""

    def __init__(self, device: Device) -> None:
        self.line = device.transport()
        self.waiting = b""
        self.sequence = 0

    def exchange(self, kind: int, payload: bytes) -> tuple[bytes, Packet]:
        """The answer's bytes as they came, and unpacked."""
        self.sequence = (self.sequence + 1) % 256
        self.line.write(WAKE + pack(Packet(self.sequence, kind, payload)))
        while True:
            data = self.line.read(20.0)
            assert data, "no answer in 20 s"
            *stretches, self.waiting = (self.waiting + data).split(END)
            for stretch in stretches:
                packet = unpack(stretch)
                if packet and packet.sequence == self.sequence:
                    return stretch, packet


@pytest.fixture(scope="module")
def wire(device: Device) -> Wire:
    return Wire(device)


ids = st.lists(st.integers(0, link_device.VOCAB_SIZE - 1), min_size=1, max_size=100)


@needs_compiler
@settings(deadline=None, max_examples=150)
@given(ids=ids)
def test_c_packs_as_python_does(wire: Wire, ids: list[int]) -> None:
    """C understands what Python packs, and packs what Python packs: floats of a hash, hardly a zero among them."""
    stretch, answer = wire.exchange(Kind.PREFILL, struct.pack(f"<{len(ids) + 1}I", 0, *ids))
    assert answer.kind == Kind.PREFILL | REPLY and answer.payload == struct.pack("<Q", 1000 * len(ids))
    assert pack(answer) == stretch + END
    twin = link_device.Twin()
    twin.compute(ids, 0)
    stretch, answer = wire.exchange(Kind.LOGITS, struct.pack("<I", len(ids)))
    assert answer.payload == twin.logits()[len(ids) : len(ids) + 256].astype("<f4").tobytes()
    assert pack(answer) == stretch + END


@needs_compiler
@settings(deadline=None, max_examples=150)
@given(text=st.binary(max_size=256))
def test_any_bytes_travel(wire: Wire, text: bytes) -> None:
    """Bytes that are no token's text go as byte tokens, ids 3 to 258: whatever was sent comes back in the ids."""
    stretch, answer = wire.exchange(Kind.ENCODE, text)
    pieces = link_device.pieces()
    got = b"".join(pieces[id] for (id,) in struct.iter_unpack("<I", answer.payload))
    assert answer.kind == Kind.ENCODE | REPLY and got == text
    assert pack(answer) == stretch + END


@needs_compiler
@settings(deadline=None, max_examples=300)
@given(garbage=st.lists(st.binary(max_size=60), max_size=5), kind=st.integers(0, 255), payload=st.binary(max_size=700))
def test_garbage_does_no_harm(wire: Wire, garbage: list[bytes], kind: int, payload: bytes) -> None:
    """Whatever comes, packed rightly or not, the firmware (under ASan and UBSan) lives and answers the next request."""
    wire.line.write(WAKE + END.join(garbage) + END + pack(Packet(wire.sequence, kind, payload)))
    _, answer = wire.exchange(Kind.ENCODE, b"a")
    assert answer.kind == Kind.ENCODE | REPLY
