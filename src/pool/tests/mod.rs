//! With connections to a stand-in for PostgreSQL.

mod bed;
mod generation;
mod opening;
