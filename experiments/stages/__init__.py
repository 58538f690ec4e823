"""The stages of a study, one file each. A stage's version is a hash of all its file can reach."""
