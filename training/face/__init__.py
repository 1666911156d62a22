"""The morphable face: identities, FACS shapes, expressions, what is visible."""
