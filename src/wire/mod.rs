//! The protocol without IO: bytes and events in, verdicts out. No socket and no clock here.

pub mod cut;
pub mod exchange;
pub mod extended;
pub mod frame;
pub mod params;
pub mod plan;
pub mod sql;
pub mod statement;
pub mod tag;
