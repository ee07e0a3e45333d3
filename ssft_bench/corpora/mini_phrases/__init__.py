"""The embedded corpus `mini_phrases`: half an hour of synthetic short sentences, 119 words in all, labelled.

`manifest.jsonl` lists the files under `audio/`; `README.md` is the card; `make/` makes it again.
"""
