//! Two schedulers on one database.
