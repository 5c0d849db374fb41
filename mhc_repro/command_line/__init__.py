"""What stands between a person and the rest: command lines, their mistakes, and a look at runs."""
