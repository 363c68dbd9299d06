"""Bringing a model to a Raspberry Pi, or any Linux computer, over one ssh process.

On this side, in order: `deploy` and `doctor` (what users ask for), `visit` (the line, and what is sent), `computer` and
`memory` (what there is to say against it), `wheels` and `runtime_files` (what is sent). On the other: `probe`, the
first program, which loads `places`, `arriving` and `installer`; `self_check` starts what has come.
"""
