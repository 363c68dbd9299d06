"""What the stems of checkpoints/ read with: file formats, configurations, vocabularies, and other converters."""
