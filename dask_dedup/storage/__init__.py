"""Files on local file systems and in object stores."""
