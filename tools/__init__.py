"""What the project needs to be published and documented; not part of the package."""
