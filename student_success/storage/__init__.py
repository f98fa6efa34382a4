"""The database: engine, tables, migrations, and every line of SQL."""
