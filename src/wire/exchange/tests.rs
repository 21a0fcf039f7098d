//! The traps that poolers before us fell into, as far as they concern the exchange, each under its number (`trap_18_…`), in the
//! notation of [`notation`], every case with the bytes of both sides cut into pieces of several sizes.

use super::Unleased;

mod notation;
mod rig;

mod channels;
mod copy;
mod forgotten;
mod hostile;
mod model;
mod refuse;
mod release;
mod rng;
mod script;
mod sizes;
mod sql;
mod state;
mod statements;
mod sweep;
mod transfer;
