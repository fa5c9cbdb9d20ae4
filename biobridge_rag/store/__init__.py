"""The artefacts of a built home: the Chroma index and the manifest that says what belongs together."""
