//! What servers have said of startup parameters: whoever comes with the same need not wait for one.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::login::Introduction;
use crate::pool::{Pool, StartupKey};
use crate::wire::exchange::Startup;
use crate::wire::params::{self, Params};

/// Distinct sets of startup parameters remembered per process; past that, all are forgotten.
const KNOWN_STARTUPS_MAX: usize = 4096;
/// Of them together, in bytes: one may be as long as a startup packet.
const KNOWN_STARTUPS_BYTES_MAX: usize = 8 << 20;
/// What a server reports about itself takes about so much, in bytes.
const STATUSES_BYTES: usize = 512;

/// Startup parameters a server of a pool's generation has accepted, with the reported ones as it spells them.
#[derive(Debug, Default)]
pub struct KnownStartups(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    accepted: HashMap<Asked, Accepted, RandomState>,
    bytes: usize,
}

/// In which generation, whose number no other pool's has, and what.
type Asked = (u64, StartupKey);

#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) params: Arc<Params>,
    pub(super) settings: Startup,
    /// The ParameterStatus messages of the greeting, since whoever comes with the same is told the same.
    pub(super) statuses: Arc<[u8]>,
}

impl Accepted {
    pub(super) fn new(params: Arc<Params>, settings: Startup) -> Self {
        let statuses = statuses(&params).into();
        Self { params, settings, statuses }
    }
}

impl KnownStartups {
    /// Asked by `who`, who keeps the answer as long as it is right.
    pub(super) fn get(&self, pool: &Pool, who: &Introduction) -> Option<Accepted> {
        let generation = pool.generation_number();
        let mut kept = who.accepted.lock();
        if kept.as_ref().is_none_or(|(of, _)| *of != generation) {
            *kept =
                self.0.lock().accepted.get(&(generation, Arc::clone(&who.asked))).map(|accepted| (generation, accepted.clone()));
        }
        kept.as_ref().map(|(_, accepted)| accepted.clone())
    }

    pub(super) fn learn(&self, generation: u64, asked: &StartupKey, accepted: Accepted) {
        // It is there as it was asked for, in the settings, and in what is told of them.
        let bytes = accepted.statuses.len() + 3 * asked.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let mut known = self.0.lock();
        if known.accepted.len() >= KNOWN_STARTUPS_MAX || known.bytes + bytes > KNOWN_STARTUPS_BYTES_MAX {
            *known = Known::default();
        }
        known.bytes += bytes;
        known.accepted.insert((generation, Arc::clone(asked)), accepted);
    }
}

/// The ParameterStatus messages of a greeting.
pub(super) fn statuses(params: &Params) -> Vec<u8> {
    let mut out = Vec::with_capacity(STATUSES_BYTES);
    params.iter().for_each(|(name, value)| params::write_status(name, value, &mut out));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::exchange::Catalog;

    #[test]
    fn what_is_known_of_long_startups_is_bounded_in_bytes() {
        let (known, catalog) = (KnownStartups::default(), Catalog::default());
        let most = KNOWN_STARTUPS_BYTES_MAX / (3 * 9000);
        for nth in 0..2 * most as u64 {
            let asked: StartupKey = [("a.b".to_owned(), format!("{nth:09000}"))].into_iter().collect();
            let params = Arc::new(Params::default());
            let settings = catalog.startup(Vec::new(), &params);
            known.learn(nth, &asked, Accepted::new(params, settings));
            let kept = known.0.lock();
            assert!((1..=most).contains(&kept.accepted.len()) && kept.accepted.contains_key(&(nth, asked)));
        }
    }
}
