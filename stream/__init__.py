"""The I/O shell of facestage: sources, pipeline, server and page, files, command line."""
