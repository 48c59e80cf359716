"""The sections of the report. Each module returns what the template shows, or None to leave the section out."""
