"""Frames: how whatever runs a model is asked and answers; the twin of `runtime/frames.c`. Only the standard library.

A packet is `sequence u8 · kind u8 · payload · CRC-16 u16`, little-endian, stuffed by COBS (Cheshire and Baker, 1999) so
that no byte of it is zero, and ended by one zero byte: after any garbage, the next zero is a boundary. The CRC is
CRC-16/CCITT-FALSE (polynomial 0x1021, start 0xFFFF) over all that precedes it.

The host asks, the device answers once, with the same sequence number and with `kind | REPLY` or ERROR. A request
that was heard before (same sequence, kind and CRC as the last one) is answered from memory, not carried out again:
the host may repeat itself whenever an answer is late.

    request                                                  reply
    HELLO                                                    JSON, see info.py
    PREFILL   position u32 · ids u32…                        ticks u64            logits of the last id are kept
    FORWARD   position u32 · id u32                          ticks u64            one decode step on a given token
    GENERATE  count u16 · flags u16 · temperature f32 ·      (id u32 · ticks u64)…  fewer than count where it stops
              top_p f32 · seed u64
    LOGITS    first u32                                      f32…                 as many as fit a packet
    ENCODE    bytes                                          ids u32…             by the device's own tokenizer
    LINES                                                    nothing              then back to lines mode
    INPUT     offset u32 · bytes                             nothing              part of a plain model's inputs
    INVOKE    flags u32                                      ticks u64            one inference of a plain model
    OUTPUT    index u32 · offset u32                         bytes                as many as fit a packet
    OPEN      JSON                                           nothing              a computer loads that model
    FACTS                                                    JSON                 what a computer tells of itself now
    CHECK                                                    bytes u32 · crc u32  the image in a board's flash, CRC-32
    ACTED                                                    UTF-8 text           what a board did about an answer
    any                                                      ERROR: UTF-8 text

GENERATE samples a token from the kept logits and computes it at the next position, count times. It stops after a stop
token (which is reported with 0 ticks and not computed); where the context is full, nothing is sampled any more. Flag
SEED sets the generator to `seed` first. PREFILL and FORWARD may go back to any position already computed; what lay
behind it is forgotten. Ticks are those of the device's clock and count computing alone.

HELLO says of which kind a model is: a language model takes PREFILL to ENCODE, a plain one INPUT, INVOKE and OUTPUT.
INPUT counts bytes through all inputs as if they lay one after the other; they stay until others take their place. An
inference starts from an empty state (variables of the model), unless INVOKE has the flag KEEP_STATE.

A board holds one model, which is in its image. A computer (a Raspberry Pi) holds files, of which OPEN loads one in the
place of the one before; it also answers FACTS: its clock, temperature, throttling if it can. Boards refuse both, and
they alone answer CHECK and ACTED.

Between zeros there may be nothing, and whoever sends may put a zero before a packet: text or garbage that came first
then spoils no packet. WAKE before a packet brings a device with several modes into this one; for a device in frames
mode it is garbage, and costs nothing. docs/link.md says the rest.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass
from enum import IntEnum

END = b"\x00"
WAKE = b"\x00%frames%\x00"
REPLY = 0x80
SEED = 1  # flags of GENERATE
ACT = 2
KEEP_STATE = 1  # flag of INVOKE


class Kind(IntEnum):
    """What a packet asks; its answer has REPLY set as well."""

    HELLO = 1
    PREFILL = 2
    FORWARD = 3
    GENERATE = 4
    LOGITS = 5
    ENCODE = 6
    LINES = 7
    INPUT = 8
    INVOKE = 9
    OUTPUT = 10
    OPEN = 11
    FACTS = 12
    CHECK = 13
    ACTED = 14
    ERROR = 0x7F


@dataclass(frozen=True)
class Packet:
    """One request or answer, its CRC checked."""

    sequence: int
    kind: int
    payload: bytes


def stuff(data: bytes) -> bytes:
    """COBS: data without its zeros, at most 1 byte longer in 254; the ending zero is not included."""
    out = bytearray()
    for part in data.split(END):
        while len(part) >= 254:
            out += b"\xff" + part[:254]
            part = part[254:]
        out += bytes([len(part) + 1]) + part
    return bytes(out)


def unstuff(data: bytes) -> bytes | None:
    """The inverse of `stuff`; None for what `stuff` cannot have written."""
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        part = data[at + 1 : at + code]
        if code == 0 or len(part) != code - 1:
            return None
        out += part
        at += code
        if code < 255 and at < len(data):
            out += END
    return bytes(out)


def pack(packet: Packet) -> bytes:
    """The bytes of one packet on the wire, its ending zero included."""
    body = struct.pack("<BB", packet.sequence, packet.kind) + packet.payload
    return stuff(body + struct.pack("<H", binascii.crc_hqx(body, 0xFFFF))) + END


def unpack(data: bytes) -> Packet | None:
    """The packet in one stretch of bytes between zeros; None for garbage."""
    body = unstuff(data)
    if body is None or len(body) < 4 or binascii.crc_hqx(body[:-2], 0xFFFF) != struct.unpack("<H", body[-2:])[0]:
        return None
    return Packet(body[0], body[1], body[2:-2])


def sequence_of(data: bytes) -> int | None:
    """The sequence number of what unpack would read, without checking any of it: for who only passes packets on."""
    if len(data) < 2:
        return None
    return data[1] if data[0] > 1 else 0
