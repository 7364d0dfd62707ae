"""What every room may use and that knows no room: rules for values, files written whole."""
