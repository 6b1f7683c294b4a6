"""Scripts that make the files which Archwright ships: run from a checkout, never by a study."""
