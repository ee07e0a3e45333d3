"""The embedded corpus `mini_phrases`: half an hour of synthetic short sentences of 120 words, with labels.

`manifest.jsonl` lists the files under `audio/`; `README.md` is the card; `make/` makes it again.
"""
