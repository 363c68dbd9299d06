"""edge: small language models on microcontrollers and Raspberry Pis, with what they cost there.

The rooms, from the roof down: cli, decide, measure, run, make, tokenizer; below them stands `firmware_tools`.
"""

from firmware_tools import __version__ as __version__
