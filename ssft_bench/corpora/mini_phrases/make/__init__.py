"""Makes the corpus `mini_phrases` again, with the tools of `ssft_bench.corpora.mini.make`.

Nobody who uses the corpus needs this; the result is committed beside it. On Debian or Ubuntu:

    apt-get install flite festival festvox-us-slt-hts festvox-kallpc16k festvox-kdlpc16k espeak-ng
    pip install ssft-bench pocketsphinx
    python -m ssft_bench.corpora.mini_phrases.make build --out DIR --seed 1
    python -m ssft_bench.corpora.mini_phrases.make card --corpus DIR
    python -m ssft_bench.corpora.mini_phrases.make check --corpus DIR

Modules: `grammar` (words, sentences, labels), `voices`, `plan` (who says what), `card`, `check`.
"""
