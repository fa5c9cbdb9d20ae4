"""Finding nodes: words to nodes (linking), and the nodes that a query is related to (bridge, analogues, prior, fused).

Knows: the graph, the store and the bridge. Does not know: questions, answers, language models, files of a user.
"""
