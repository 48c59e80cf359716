"""The sections of the report. Each module returns the data for the template, or None to leave out the section."""
