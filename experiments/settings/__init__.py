"""Settings: dataclasses behind YAML, read and checked."""
