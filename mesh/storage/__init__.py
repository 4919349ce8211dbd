"""Where services keep their rows: PostgreSQL, its migrations, and the address of Redis or Valkey."""
