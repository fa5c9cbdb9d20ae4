"""The bridge: carries a frozen embedding from one modality into another, given a relation."""
