"""The subcommands of ``facestage``: options in, a run, text out."""
