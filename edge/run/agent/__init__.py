"""What runs where the model is, on this machine or on a Raspberry Pi, and answers frames.

In the order in which a request meets them: `keeper` (of a Pi: one line, many models; `console` where the line is a
terminal), `__main__` and `loading` (one process, one model), `streams`, `session`, then `decoder_session` or
`plain_model`, and what computes: `decoder_model` in LiteRT's CompiledModel or `interpreted_model` in its Interpreter,
both found by `runtimes`. `weight_cache` and `packing` keep the packed weights, `checked_file` is sure of the model,
`machine` tells what the computer is (`vcgencmd`, `emulation`).

Only the standard library, numpy and the runtime; nothing here imports what is not sent to a Pi.
"""
