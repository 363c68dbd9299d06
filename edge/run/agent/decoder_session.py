"""The requests that a language model takes, whatever loaded it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.run.agent.session import MAX_PAYLOAD, Refusal, Session
from firmware_tools.frames import SEED, Kind, Packet
from firmware_tools.sampler import Generator, Sampler

STEP_BYTES = 12  # of a GENERATE answer: id u32, ticks u64


class Decoder(Protocol):
    """A language model that is loaded: DecoderModel or InterpretedModel."""

    layers: int
    vocab_size: int
    context: int
    kv_cache_bytes: int
    logits: NDArray[np.float32]

    def warm_up(self) -> None: ...
    def decode(self, token: int, position: int) -> int: ...
    def prefill(self, ids: Sequence[int], position: int) -> int: ...


class DecoderSession(Session):
    """What a board keeps of a language model: how much of the cache is filled, logits, the sampler."""

    def __init__(self, model: Decoder, info: Mapping[str, Any]) -> None:
        super().__init__(info)
        self.model = model
        self.context = int(info["context"])
        self.stop_ids = frozenset(info["stop_ids"])
        self.filled = 0
        self.generator = Generator(Sampler())

    def carry_out(self, request: Packet) -> bytes:
        payload, size = request.payload, len(request.payload)
        if request.kind == Kind.PREFILL and size >= 8 and size % 4 == 0:
            position, *ids = struct.unpack(f"<{size // 4}I", payload)
            return self._compute(ids, position, prefill=True)
        if request.kind == Kind.FORWARD and size == 8:
            position, token = struct.unpack("<2I", payload)
            return self._compute([token], position, prefill=False)
        if request.kind == Kind.GENERATE and size == 20:
            return self._generate(*struct.unpack("<HHffQ", payload))
        if request.kind == Kind.LOGITS and size == 4:
            return self._logits(*struct.unpack("<I", payload))
        if request.kind == Kind.ENCODE:
            raise Refusal("this target has no tokenizer of its own; the host encodes")
        return super().carry_out(request)

    def _compute(self, ids: Sequence[int], position: int, prefill: bool) -> bytes:
        if position > self.filled:
            raise Refusal(f"position {position} is too far: the first one not computed is {self.filled}")
        if position + len(ids) > self.context:
            raise Refusal(f"the context ends at position {self.context}")
        if max(ids) >= self.model.vocab_size:
            raise Refusal(f"no token has the id {max(ids)}; ids end at {self.model.vocab_size - 1}")
        self.filled = 0  # a failure on the way leaves nothing to go on from
        ticks = self.model.prefill(ids, position) if prefill else self.model.decode(ids[0], position)
        self.filled = position + len(ids)
        return struct.pack("<Q", ticks)

    def _generate(self, count: int, flags: int, temperature: float, top_p: float, seed: int) -> bytes:
        most = MAX_PAYLOAD // STEP_BYTES
        if not self.filled:
            raise Refusal("nothing to go on from: no position has been computed")
        if not 1 <= count <= most:
            raise Refusal(f"one request generates 1 to {most} tokens, not {count}")
        if not (0 <= temperature <= 1e6 and 0 < top_p <= 1):
            raise Refusal("temperature must be 0 or more, top_p above 0 and at most 1")
        if flags & SEED:
            self.generator = Generator(Sampler(temperature, top_p, seed))
        else:
            self.generator.follow(temperature, top_p)
        steps = b""
        while count and self.filled < self.context:
            token = self.generator.choose(self.model.logits)
            if token in self.stop_ids:
                return steps + struct.pack("<IQ", token, 0)
            steps += struct.pack("<IQ", token, self.model.decode(token, self.filled))
            self.filled += 1
            count -= 1
        return steps

    def _logits(self, first: int) -> bytes:
        if not self.filled:
            raise Refusal("no logits: no position has been computed")
        if first >= self.model.vocab_size:
            raise Refusal(f"logits end at {self.model.vocab_size - 1}")
        return self.model.logits[first : first + MAX_PAYLOAD // 4].astype("<f4").tobytes()
