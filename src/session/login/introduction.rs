//! Who a client says it is: its startup packet, taken apart, and where that leads.
//!
//! Most clients say, byte for byte, what one before them said: that is found out once. To take a packet apart was 1 700
//! instructions of a connection, and what follows from it was found out anew as well.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::error::PgError;
use crate::net::stream::Stream;
use crate::pool::{PoolKey, PoolMode, StartupKey};
use crate::session::login::route::{self, Destination, Route, Stray};
use crate::session::login::{LoginContext, negotiate};
use crate::session::startups::Accepted;
use crate::wire::startup::{FirstPacket, Startup};

/// Packets that are remembered; past that, all are forgotten. Together with [`PACKET_BYTES_MAX`] less than a MiB.
const PACKETS_MAX: usize = 256;
/// The longest that is remembered.
const PACKET_BYTES_MAX: usize = 1024;

#[derive(Debug)]
pub struct Introduction {
    pub startup: Startup,
    pub route: Route,
    /// The settings it asks for, in the order in which PostgreSQL applies them.
    pub asked: StartupKey,
    /// What it asks for, as servers of this generation have it.
    pub(in crate::session) accepted: Mutex<Option<(u64, Accepted)>>,
    sessions: OnceLock<PoolKey>,
    transactions: OnceLock<PoolKey>,
}

/// What a startup packet comes to.
#[derive(Debug)]
pub(super) enum Introduced {
    To(Arc<Introduction>),
    Nowhere(Box<(Startup, Stray)>),
}

/// What clients of this machine said, by its bytes. It is right for the settings that it was found out with, and for no others.
///
/// Of this machine alone: to the others the time of an answer would tell who has been here.
#[derive(Debug, Default)]
pub struct Introductions(Mutex<HashMap<Box<[u8]>, Arc<Introduction>, RandomState>>);

/// # Errors
/// What PostgreSQL answers to such a packet; 28000 for a name that cannot be.
pub(super) fn introduce(packet: &[u8], stream: &Stream, context: &LoginContext) -> Result<Introduced, PgError> {
    let remembered = Some(&context.introductions).filter(|_| !stream.is_tls() && stream.peer().is_local());
    if let Some(known) = remembered.and_then(|remembered| remembered.get(packet)) {
        return Ok(Introduced::To(known));
    }
    let startup = match FirstPacket::parse(packet) {
        Ok(FirstPacket::Startup(startup)) => startup,
        Ok(_) => return Err(negotiate::not_a_packet()),
        Err(error) => return Err(negotiate::in_words(error, context.settings.error_texts)),
    };
    match route::route(&context.settings, &startup, stream.server_name())? {
        Destination::Project(route) => {
            let introduction = Arc::new(Introduction::new(startup, route));
            if let Some(remembered) = remembered {
                remembered.learn(packet, &introduction);
            }
            Ok(Introduced::To(introduction))
        }
        Destination::Nowhere(stray) => Ok(Introduced::Nowhere(Box::new((startup, stray)))),
    }
}

impl Introduction {
    pub fn new(startup: Startup, route: Route) -> Self {
        let asked = startup.settings().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (accepted, sessions, transactions) = Default::default();
        Self { startup, route, asked, accepted, sessions, transactions }
    }

    /// Its pool, on the port of this mode.
    pub fn pool(&self, mode: PoolMode) -> &PoolKey {
        let Route { project, user, database, .. } = &self.route;
        let key = match mode {
            PoolMode::Session => &self.sessions,
            PoolMode::Transaction => &self.transactions,
        };
        key.get_or_init(|| PoolKey { project: project.name.clone(), database: database.clone(), user: user.clone(), mode })
    }
}

impl Introductions {
    fn get(&self, packet: &[u8]) -> Option<Arc<Introduction>> {
        self.0.lock().get(packet).cloned()
    }

    fn learn(&self, packet: &[u8], introduction: &Arc<Introduction>) {
        if packet.len() > PACKET_BYTES_MAX {
            return;
        }
        let mut known = self.0.lock();
        if known.len() >= PACKETS_MAX {
            known.clear();
        }
        known.insert(packet.into(), Arc::clone(introduction));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::socket::{Peer, Socket};
    use crate::session::login::tests::bed::{Bed, startup_packet};

    fn came_from(peer: Peer) -> Stream {
        let (_, ours) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        Stream::Plain(Socket::unix(ours).unwrap().with_peer(peer))
    }

    fn introduced(bed: &Bed, packet: &[u8], stream: &Stream) -> Arc<Introduction> {
        match introduce(packet, stream, &bed.context).unwrap() {
            Introduced::To(introduction) => introduction,
            Introduced::Nowhere(_) => panic!("nowhere"),
        }
    }

    #[tokio::test]
    async fn who_says_the_same_is_taken_for_the_same_and_nobody_else() {
        let (bed, stream) = (Bed::new(), came_from(Peer::Unix { pid: None }));
        let (ann, bob) = (startup_packet(0, "user\0ann\0a\0b\0"), startup_packet(0, "user\0bob\0a\0b\0"));
        let first = introduced(&bed, &ann, &stream);
        assert!(Arc::ptr_eq(&first, &introduced(&bed, &ann, &stream)));
        assert_eq!((first.route.user.as_str(), &first.asked[..]), ("ann", &[("a".to_owned(), "b".to_owned())][..]));
        assert_eq!(introduced(&bed, &bob, &stream).route.user, "bob");
        let newer = startup_packet(2, "user\0ann\0a\0b\0");
        assert_eq!(introduced(&bed, &newer, &stream).startup.minor(), 2);
    }

    #[tokio::test]
    async fn strangers_leave_no_trace_and_see_none() {
        let (bed, packet) = (Bed::new(), startup_packet(0, "user\0ann\0"));
        let (here, there) = (came_from(Peer::Unix { pid: None }), came_from(Peer::Tcp("10.0.0.1:1".parse().unwrap())));
        introduced(&bed, &packet, &there);
        assert!(bed.context.introductions.0.lock().is_empty());
        let known = introduced(&bed, &packet, &here);
        assert!(!Arc::ptr_eq(&known, &introduced(&bed, &packet, &there)));
    }

    #[tokio::test]
    async fn what_is_remembered_has_bounds() {
        let (bed, stream) = (Bed::new(), came_from(Peer::Unix { pid: None }));
        let long = startup_packet(0, &format!("user\0ann\0a\0{}\0", "x".repeat(PACKET_BYTES_MAX)));
        introduced(&bed, &long, &stream);
        assert!(bed.context.introductions.0.lock().is_empty());
        for n in 0..2 * PACKETS_MAX {
            introduced(&bed, &startup_packet(0, &format!("user\0u{n}\0")), &stream);
            assert!((1..=PACKETS_MAX).contains(&bed.context.introductions.0.lock().len()));
        }
    }
}
