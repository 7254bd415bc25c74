//! The metadata DB over sqlx: SQLite now, the same SQL on PostgreSQL later.
