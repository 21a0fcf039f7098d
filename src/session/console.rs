//! Where clients go that want to know of the pooler itself: a layer further up, which the door is handed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::House;
use super::login::Login;
use crate::wire::startup::CancelRequest;

/// A database that exists in the pooler alone.
pub trait Console: std::fmt::Debug + Send + Sync {
    /// Called once, before anybody comes.
    fn open(self: Arc<Self>, house: &Arc<House>);

    /// Whoever connects to it, from the proved login to the end.
    fn serve(self: Arc<Self>, house: Arc<House>, login: Login) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Cancels what one of its clients runs; whether the key is one of theirs.
    fn cancel(&self, request: &CancelRequest) -> bool;

    /// How many there are.
    fn clients(&self) -> usize;

    /// Ends the one with this id, which none of the pools' clients has; whether there is one.
    fn end(&self, id: u64) -> bool;

    /// The process ends: each of them is told (57P01) and leaves, and so does whoever comes yet.
    fn stop(&self);
}
