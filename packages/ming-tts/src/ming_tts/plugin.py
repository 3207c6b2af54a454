"""Everything this package adds: nothing before its first encoder or head is released."""
