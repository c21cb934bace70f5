"""Plans: built once per machine in a confined child process, kept in the user's cache."""
