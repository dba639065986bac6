"""Text to ids: what is read, and how it is cut into numbered pieces. No file here imports torch.

Reading order: `documents` with `formats` and `pydoc` (files, folders, globs, standard input -> text), `corpus` with
`cutting` (all of it in order, in memory or on disk, and in parts), `alphabet` and `vocabulary`, the ways to get a
vocabulary (`gpt2`, `bpe`, `characters`) and their names (`kinds`), `tokenizer` with `tokenizer_files` and `stream`,
and `stories`, a synthetic text whose entropy is known.
"""
