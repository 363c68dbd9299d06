"""A plain model in LiteRT: bytes of its inputs in, bytes of its outputs out, by INPUT, INVOKE and OUTPUT."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.run.agent.session import MAX_PAYLOAD, Refusal, Session
from firmware_tools.frames import KEEP_STATE, Kind, Packet

Array = NDArray[Any]


class PlainModel:
    """One way into a file: its main subgraph, or a signature of another one."""

    def __init__(self, lite: Any, signature: Mapping[str, Any] | None) -> None:
        self._lite = lite
        self._runner: Any = None
        if signature:
            self._runner = lite.get_signature_runner(signature["name"])
            inputs, outputs = self._runner.get_input_details(), self._runner.get_output_details()
            self._names = (tuple(signature["inputs"]), tuple(signature["outputs"]))
            self._details = ([inputs[n] for n in self._names[0]], [outputs[n] for n in self._names[1]])
        else:
            self._details = (lite.get_input_details(), lite.get_output_details())
        self.buffer = bytearray(sum(self.size_bytes(detail) for detail in self._details[0]))
        self.outputs: list[bytes] = []

    @staticmethod
    def size_bytes(detail: Mapping[str, Any]) -> int:
        return int(np.prod(detail["shape"])) * int(np.dtype(detail["dtype"]).itemsize)

    def invoke(self, keep_state: bool) -> int:
        """Computes the outputs of what is in buffer; returns nanoseconds, of computing alone."""
        inputs, start = [], 0
        for detail in self._details[0]:
            end = start + self.size_bytes(detail)
            inputs.append(np.frombuffer(self.buffer[start:end], detail["dtype"]).reshape(detail["shape"]))
            start = end
        if not keep_state:
            self._lite.reset_all_variables()
        if self._runner is not None:
            started = time.perf_counter_ns()
            found = self._runner(**dict(zip(self._names[0], inputs, strict=True)))
            ticks = time.perf_counter_ns() - started
            outputs = [found[name] for name in self._names[1]]
        else:
            for detail, array in zip(self._details[0], inputs, strict=True):
                self._lite.set_tensor(detail["index"], array)
            started = time.perf_counter_ns()
            self._lite.invoke()
            ticks = time.perf_counter_ns() - started
            outputs = [self._lite.get_tensor(detail["index"]) for detail in self._details[1]]
        self.outputs = [np.ascontiguousarray(array).tobytes() for array in outputs]
        return ticks


class PlainSession(Session):
    """The requests that a plain model takes."""

    def __init__(self, model: PlainModel, info: Mapping[str, Any]) -> None:
        super().__init__(info)
        self.model = model

    def carry_out(self, request: Packet) -> bytes:
        payload, size = request.payload, len(request.payload)
        if request.kind == Kind.INPUT and size > 4:
            (offset,) = struct.unpack("<I", payload[:4])
            if offset + size - 4 > len(self.model.buffer):
                raise Refusal(f"the inputs end at byte {len(self.model.buffer)}")
            self.model.buffer[offset : offset + size - 4] = payload[4:]
            return b""
        if request.kind == Kind.INVOKE and size == 4:
            (flags,) = struct.unpack("<I", payload)
            return struct.pack("<Q", self.model.invoke(bool(flags & KEEP_STATE)))
        if request.kind == Kind.OUTPUT and size == 8:
            return self._output(*struct.unpack("<II", payload))
        return super().carry_out(request)

    def _output(self, index: int, offset: int) -> bytes:
        outputs = self.model.outputs
        if not outputs:
            raise Refusal("there are no outputs yet: INVOKE first")
        if index >= len(outputs):
            raise Refusal(f"outputs end before {len(outputs)}")
        if offset >= len(outputs[index]):
            raise Refusal(f"this output ends at byte {len(outputs[index])}")
        return outputs[index][offset : offset + MAX_PAYLOAD]
