"""Pure tensor mathematics: no module here owns a parameter or remembers anything."""
