"""A whole recording: read, analyse, and write report, tables, pictures and video."""
