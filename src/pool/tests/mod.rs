//! With connections to a stand-in for PostgreSQL.

mod bed;
mod gates;
mod generation;
mod opening;
