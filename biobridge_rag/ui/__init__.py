"""The web page: conversation, candidate table, evidence. It shows what the engine found and computes nothing itself."""
