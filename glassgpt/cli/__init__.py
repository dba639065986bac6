"""The command line: one file a command, thin, importing torch only when a command needs it."""
