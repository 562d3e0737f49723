"""Files of calls: read line by line into jobs, and their answers written back into files."""
