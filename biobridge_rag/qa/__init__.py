"""Question answering: what a question asks for, the numbered evidence, the answer from it with or without a language model.

Knows: the graph, linking, and a retrieve function that it is given. Does not know: the store, encoders, settings, the page.
"""
