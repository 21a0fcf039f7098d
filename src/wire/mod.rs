//! The protocol without IO: bytes and events in, verdicts out. No socket and no clock here.

pub mod authentication;
pub mod cut;
pub mod exchange;
pub mod extended;
pub mod fields;
pub mod frame;
pub mod listen;
pub mod names;
pub mod options;
pub mod params;
pub mod password;
pub mod plan;
pub mod position;
pub mod probe;
pub(crate) mod reader;
pub mod reply;
pub mod request;
pub mod sql;
pub mod startup;
pub mod statement;
pub mod tag;
