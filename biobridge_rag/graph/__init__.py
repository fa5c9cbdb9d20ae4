"""The knowledge graph: read from PrimeKG's tables, saved and loaded as an artefact; links to the pages of its nodes.

Knows: files and the nouns of `types`. Does not know: encoders, models, indexes.
"""
